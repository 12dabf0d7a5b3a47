"""The chart is what Kubernetes takes, and what it starts is what our images and settings are."""

import re
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hearth_dataset.config import DatasetSettings
from hearth_gateway.config import GatewaySettings
from hearth_inference.config import InferenceSettings
from hearth_jobs.config import RedisSettings
from hearth_local.paths import CHECKOUT
from hearth_management.config import ManagementSettings
from hearth_storage.config import HomeSettings, S3Settings
from hearth_training.config import TrainingSettings
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from tests.support.helm import CHART, VALUES, Chart, render, run

OTHERS = {
    "everything": {"ServiceMonitor", "ScrapeConfig", "PrometheusRule", "ScaledObject"},
    "ray": {"RayCluster"},  # of its fields test_ray.py tells
}
"""Kinds of other projects, for whose fields Kubernetes has no schema."""

STORES = (RedisSettings, S3Settings, HomeSettings)
KNOWN: dict[str, tuple[type[BaseSettings], ...]] = {
    "gateway": (GatewaySettings, RedisSettings),
    "management": (ManagementSettings, *STORES),
    "downloads": (ManagementSettings, *STORES),
    "dataset": (DatasetSettings, *STORES),
    "training": (TrainingSettings, *STORES),
    "inference-llm": (InferenceSettings, *STORES),
    "inference-embeddings": (InferenceSettings, *STORES),
}
THEIRS = {"HF_TOKEN", "HF_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "NCCL_DEBUG"}
"""Variables that are read by libraries."""

OF_ALL = {"HEARTH_MAX_MODEL_LEN"}
"""What examples/gpu.yaml sets for every service."""


def names_of(classes: tuple[type[BaseSettings], ...]) -> set[str]:
    return {f"HEARTH_{name.upper()}" for settings in classes for name in settings.model_fields}


def test_helm_finds_no_fault(helm: Path, values: tuple[str, ...]) -> None:
    done = run(helm, "lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "version"),
    [
        ("defaults", "1.37"),
        ("gpu", "1.37"),
        ("everything", "1.37"),
        ("everything", "1.30"),
        ("ray", "1.37"),
        ("ray", "1.30"),
    ],
)
def test_every_object_has_the_form_that_kubernetes_has_for_it(helm: Path, values: str, version: str) -> None:
    unchecked = set()
    for doc in render(helm, VALUES[values]).docs:
        try:
            kubernetes_validate.validate(doc, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unchecked.add(doc["kind"])
    assert unchecked == OTHERS.get(values, set())


def test_a_package_of_the_chart_holds_all_that_it_reads(helm: Path, tmp_path: Path, everything: Chart) -> None:
    done = run(helm, "package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    done = run(helm, "template", "hearth", str(package), "--namespace", "llm", *VALUES["everything"])
    assert tuple(doc for doc in yaml.safe_load_all(done.stdout) if doc) == everything.docs


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("stores.secret=", "stores.secret must name the Secret"),
        ("stores.s3Endpoint=", "stores.s3Endpoint must be set"),
        ("stores.s3Endpoint=https://s3.example.com", "/stores/s3Endpoint"),
        ("gateway.replica=3", "'replica' not allowed"),
        ("training.gpus=-1", "/training/gpus"),
        ("settings.PATH=/tmp", "'PATH' not allowed"),
        ("gateway.resources.limits=null", "missing property 'limits'"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_with_their_name(helm: Path, wrong: str, reason: str) -> None:
    done = run(helm, "template", "hearth", str(CHART), *VALUES["defaults"], "--set", wrong)
    assert done.returncode != 0
    assert reason in done.stderr


def test_all_names_differ_between_releases_and_fit_their_limit(helm: Path) -> None:
    words = [str(CHART), *VALUES["everything"]]
    names = []
    for release in ("a", "b", "a-release-with-a-name-as-long-as-helm-allows-to"):
        docs = yaml.safe_load_all(run(helm, "template", release, *words).stdout)
        names += [(doc["kind"], doc["metadata"]["name"]) for doc in docs if doc]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


def test_every_variable_that_is_set_is_one_that_the_service_knows_and_is_set_once(chart: Chart) -> None:
    assert chart.containers.keys() == KNOWN.keys()
    for component, container in chart.containers.items():
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names)), component
        assert set(names) <= names_of(KNOWN[component]) | THEIRS | OF_ALL, component


def test_every_value_that_is_set_is_one_that_the_service_understands(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    for component, container in chart.containers.items():
        with monkeypatch.context() as environment:
            environment.setenv("HEARTH_ENGINE_PYTHON", "/opt/engine/bin/python")  # the image sets it
            for variable in container["env"]:
                environment.setenv(variable["name"], variable.get("value", "10.1.2.3"))
            for settings in KNOWN[component]:
                settings()


def test_the_settings_of_one_service_go_before_those_of_all(helm: Path) -> None:
    both = "settings.HEARTH_MAX_LORAS=2,management.settings.HEARTH_MAX_LORAS=3"
    containers = render(helm, (*VALUES["defaults"], "--set", both)).containers
    found = {
        name: [each["value"] for each in container["env"] if each["name"] == "HEARTH_MAX_LORAS"]
        for name, container in containers.items()
    }
    assert found == {name: ["3"] if name == "management" else ["2"] for name in KNOWN}


def test_secrets_come_from_secrets_that_somebody_else_made(chart: Chart) -> None:
    assert not chart.of("Secret")
    for component, container in chart.containers.items():
        secret = {
            f"HEARTH_{name.upper()}"
            for settings in KNOWN[component]
            for name, field in settings.model_fields.items()
            if field.annotation is SecretStr
        } | {"HF_TOKEN", "RAY_AUTH_TOKEN"}
        for variable in container["env"]:
            assert ("secretKeyRef" in variable.get("valueFrom", {})) is (variable["name"] in secret), variable


def test_every_image_is_one_that_compose_builds_or_training_with_ray(chart: Chart) -> None:
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"].values()
    built = {re.sub(r":\$\{.*?\}", ":TAG", each["image"]) for each in services if "build" in each}
    locks = (CHECKOUT / "services/training/trainer").glob("ray-*.lock")
    built |= {f"hearth/training:TAG-{path.stem}" for path in locks}  # DEVICE names the lock and, by the docs, the tag
    for component, container in chart.containers.items():
        image = container["image"].removeprefix("registry.example.com/team/").replace(":0.1.0", ":TAG")
        assert image in built, component


def test_every_pod_mounts_what_its_service_has_in_compose(chart: Chart) -> None:
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    for component, container in chart.containers.items():
        wanted = {volume.removesuffix(":ro").rpartition(":")[2] for volume in services[component].get("volumes", [])}
        optional = {"/var/lib/hearth/imports", "/etc/hearth/deploy.toml"}
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        mounted |= {"/var/lib/hearth/logs"} if "/var/lib/hearth/logs/jobs" in mounted else set()
        assert wanted - optional <= mounted, component
        volumes = {volume["name"] for volume in chart.pods[component]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_every_module_that_a_container_runs_is_there_and_asks_for_its_own_worker(chart: Chart) -> None:
    lanes = {"training": "training", "downloads": "downloads"}
    lanes |= {"inference-llm": "inference-llm", "inference-embeddings": "inference-embedding"}
    for component, container in chart.containers.items():
        asks = container["livenessProbe"].get("exec", {}).get("command", [])
        for command in (container.get("command", []), asks):
            if command:
                assert command[:2] == ["python", "-m"]
                assert find_spec(command[2]) is not None
        assert asks[3:4] == ([lanes[component]] if component in lanes else [])
    names = " ".join(path.read_text() for path in CHECKOUT.glob("services/*/hearth_*/[_d]*.py"))
    assert all(f'"{worker}"' in names for worker in lanes.values())


def test_what_stands_in_the_notes_can_be_typed(helm: Path) -> None:
    words = ["install", "hearth", str(CHART), "--namespace", "llm", "--dry-run=client", *VALUES["defaults"]]
    notes = run(helm, *words).stdout.partition("NOTES:")[2]
    chart = render(helm, VALUES["defaults"])
    named = re.findall(r"deploy/hearth-([a-z-]+)", notes)
    assert named == ["management", "gateway"]
    assert set(named) <= chart.of("Deployment").keys()
    (module,) = re.findall(r"python -m ([a-z_.]+)", notes)
    assert find_spec(module) is not None
    assert re.findall(r"service/hearth-([a-z-]+) 8080:80", notes) == ["gateway"]
