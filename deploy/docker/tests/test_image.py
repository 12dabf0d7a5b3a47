"""What goes into images: each lock holds all that its packages name, in the light environment's versions."""

import ast
import importlib.util
import re
import stat
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
SERVICES = sorted(path.parent for path in CHECKOUT.glob("services/*/pyproject.toml"))
DOCKERFILES = sorted(path for path in CHECKOUT.glob("services/**/Dockerfile"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / "deploy" / "docker" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def locked(path: Path) -> dict[str, str]:
    """Versions by name."""
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_services_lock_has_all_it_names_as_the_light_environment_has_it(service: Path) -> None:
    lock, light = locked(service / "requirements.lock"), locked(CHECKOUT / "deploy/local/platform.lock")
    for named in load("image").requirements(service):
        assert re.split(r"[\[=<>]", named)[0] in lock, f"{named} is missing: run `make lock`"
    assert lock.items() <= light.items()


def test_there_is_a_dockerfile_for_every_service_and_engine_and_none_runs_as_root() -> None:
    names = {str(path.parent.relative_to(CHECKOUT / "services")) for path in DOCKERFILES}
    assert names == {
        "gateway", "management", "dataset", "training", "inference/engines/vllm", "inference/engines/infinity",
    }  # fmt: skip
    for path in DOCKERFILES:
        text = path.read_text()
        assert "\nUSER hearth\n" in text
        assert "\nHEALTHCHECK " in text


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    dotenv, path = load("dotenv"), tmp_path / ".env"
    assert dotenv.make(path)
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = [line.partition("=")[2] for line in first.splitlines() if line.startswith("HEARTH_")]
    assert len(set(values)) == len(dotenv.SECRETS)
    assert all(len(value) >= 32 for value in values)
    assert not dotenv.make(path)
    assert path.read_text() == first


def test_a_bad_command_line_is_answered_with_the_usage() -> None:
    command = [sys.executable, CHECKOUT / "deploy/docker/image.py", "frobnicate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "image.py install LOCK ENVIRONMENT" in done.stderr


def imported(project: Path) -> set[str]:
    """The distributions that a project's modules import, our own and the standard library left out."""
    known = packages_distributions()
    names = set()
    for path in project.glob("hearth_*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    foreign = {name for name in names if name in known and not name.startswith("hearth")}
    return {re.sub(r"[._-]+", "-", known[name][0].lower()) for name in foreign}


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_services_lock_has_all_that_its_modules_import(service: Path) -> None:
    lock = locked(service / "requirements.lock")
    for project in load("image").closure(service):
        missing = imported(project) - lock.keys()
        assert not missing, f"{project.name}/pyproject.toml does not name {missing}"
