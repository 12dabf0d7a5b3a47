"""The air-gapped bundle: what comes out of it runs where there is no network, and elsewhere it says why it does not."""

import os
import platform as machine
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.base import now
from hearth_contracts.models import StoredModel
from hearth_local.paths import envs_folder
from hearth_storage.model_store import model_folder, record_model, snapshot_path

from tests.support.no_network import cut_off

pytestmark = pytest.mark.timeout(300)

FOLDER = Path(__file__).resolve().parents[1]
MODEL = StoredModel(model_id="acme/carried", revision="1", size_bytes=2, license=None, created_at=now())
ANSWERS = """
import sys, urllib.request
from dataclasses import replace
from hearth_local.config import Config, Ports
from hearth_local.platform import Platform
from hearth_local.programs import PROGRAMS
light = [replace(each, imports=False) for each in PROGRAMS if not each.needs and each.name != "downloads"]
platform = Platform(replace(Config.from_environment(), ports=Ports.free()), light)
try:
    platform.start()
    sys.stdout.write(urllib.request.urlopen(f"{platform.url}/api/v1/models/").read().decode())
finally:
    platform.stop()
"""
"""A platform of everything but the engines, and what its public address says."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the light environment and a model."""
    folder = tmp_path_factory.mktemp("bundle")
    snapshot = snapshot_path(folder / "home/models", MODEL)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    record_model(folder / "home/models", MODEL)
    (folder / "home/models/models--acme--other").mkdir()
    command = [sys.executable, FOLDER / "make_bundle.py", folder / "light.tar", "--only", "platform"]
    env = {**os.environ, "HEARTH_HOME": str(folder / "home")}
    made = subprocess.run([*command, "--model", MODEL.model_id], env=env, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder / "light.tar"


@pytest.fixture
def unpacked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle on another machine, in a folder with a name that configuration files trip over."""
    folder = tmp_path_factory.mktemp("a") / "my 100% bundle"
    with tarfile.open(bundle) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def offline(checkout: Path, *command: str | Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run it with no network, no cache and no setting of this machine's but these."""
    words, env = cut_off()
    home = checkout.parents[1] / "user"
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, **env, **settings}
    return subprocess.run(
        [*words, *map(str, command)], cwd=checkout, env=env, capture_output=True, text=True, check=False
    )


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    """One bit of it is another, for as long as this lasts."""
    body = file.read_bytes()
    file.write_bytes(body[:1000] + bytes([body[1000] ^ 1]) + body[1001:])
    yield
    file.write_bytes(body)


def test_it_installs_and_answers_where_there_is_no_network(unpacked: Path) -> None:
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    set_up = (python, "deploy/local/setup_envs.py", "platform")
    (uv,) = (unpacked / "bundle/wheels").glob("uv-*.whl")
    with damaged(uv):
        refused = offline(unpacked, *set_up)
        assert refused.returncode == 1
        assert "uv could not be installed from the bundle: " in refused.stderr
    installed = offline(unpacked, *set_up)
    assert installed.returncode == 0, installed.stderr
    answer = offline(unpacked, unpacked / ".envs/platform/bin/python", "-c", ANSWERS)
    assert f'"model_id":"{MODEL.model_id}"' in answer.stdout, answer.stderr


def test_it_installs_where_uv_once_got_the_same_packages_from_a_network(unpacked: Path) -> None:
    where = [envs_folder() / "uv/bin/uv", "cache", "dir"]
    cache = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    assert any(Path(cache).iterdir())
    installed = offline(unpacked, "python3", "deploy/local/setup_envs.py", "platform", UV_CACHE_DIR=cache)
    assert installed.returncode == 0, installed.stderr


def test_only_what_is_named_is_carried(bundle: Path) -> None:
    with tarfile.open(bundle) as archive:
        names = [Path(name).relative_to("light") for name in archive.getnames()]
    folder = Path(".hearth/models") / model_folder(Path(), MODEL.model_id)
    assert folder / "hearth.json" in names
    assert all(name.is_relative_to(folder) for name in names if name.is_relative_to(".hearth"))
    assert not {"__pycache__", ".envs", ".git", ".env"} & {part for name in names for part in name.parts}
    assert (bundle.parent / "light.tar.sha256").read_text().endswith("  light.tar\n")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts of deploy/local can be imported."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.usefixtures("scripts")
def test_torch_is_fetched_from_where_uv_knows_it(tmp_path: Path) -> None:
    import make_bundle

    uv = tmp_path / "uv"  # the real one would ask that index
    uv.write_text("#!/bin/sh\ncat; echo; echo '    # from https://torch.example/cpu'\n")
    uv.chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    locks = make_bundle.setup_envs.environments()
    assert make_bundle.torch_index(uv, locks["vllm"].cpu_lock) == "https://torch.example/cpu"
    assert make_bundle.torch_index(uv, locks["platform"].cpu_lock) is None


@pytest.mark.parametrize(
    ("other", "gpu", "said"),
    [
        ({"machine": "linux-riscv64"}, False, "is for linux-riscv64, and this machine is"),
        ({"glibc": "99.1"}, False, "needs glibc 99.1, and this machine has"),
        ({"python": "3.99"}, False, f"needs Python 3.99, and this machine has {machine.python_version()} only"),
        ({"gpu": True}, False, "`nvidia-smi -L` shows none here: make one with GPU=no"),
        ({}, True, "this one has one: make one with GPU=yes"),
        ({"environments": ("vllm",)}, False, "has no platform: it was made for vllm only"),
    ],
)
@pytest.mark.usefixtures("scripts")
def test_it_says_why_it_is_not_for_this_machine(other: dict[str, Any], gpu: bool, said: str) -> None:
    import bundled

    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    here = bundled.About("0.1.0", bundled.this_machine(), bundled.this_glibc(), python, False, ("platform",))
    assert bundled.why_not(here, ["platform"], gpu=False) is None
    assert said in bundled.why_not(replace(here, **other), ["platform"], gpu)


def test_images_without_a_docker_engine_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "make_bundle.py", tmp_path / "all.tar", "--only", "platform", "--images"]
    env = {**os.environ, "PATH": str(tmp_path)}
    made = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "neither `docker compose` nor `docker-compose` is on this machine" in made.stderr
    assert list(tmp_path.iterdir()) == []
