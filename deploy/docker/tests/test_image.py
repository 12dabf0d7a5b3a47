"""What goes into images: each lock holds all that its packages name, in the light environment's versions."""

import ast
import re
import stat
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from tests.support.modules import CHECKOUT, load

SERVICES = sorted(path.parent for path in CHECKOUT.glob("services/*/pyproject.toml"))
DOCKERFILES = sorted(path for path in CHECKOUT.glob("services/**/Dockerfile"))
SEAWEEDFS = CHECKOUT / "deploy" / "docker" / "seaweedfs" / "Dockerfile"


def locked(path: Path) -> dict[str, str]:
    """Versions by name."""
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_services_lock_has_all_it_names_as_the_light_environment_has_it(service: Path) -> None:
    lock, light = locked(service / "requirements.lock"), locked(CHECKOUT / "deploy/local/platform.lock")
    for named in load("deploy/docker/image.py").requirements(service):
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


@pytest.mark.parametrize("path", [*DOCKERFILES, SEAWEEDFS], ids=lambda path: path.parent.name)
def test_packages_are_installed_in_the_build_image_and_before_any_of_our_code_is_there(path: Path) -> None:
    build, _, rest = path.read_text().partition("\nFROM ")[2].partition("\nFROM ")
    assert build.startswith("${BUILD_IMAGE} AS build\n")
    assert "${BUILD_IMAGE}" not in rest
    before = build[: build.rindex("image.py install")]
    copied = re.findall(r"^COPY (?!deploy/)(\S+) ", before, re.MULTILINE)
    assert [name for name in copied if not name.endswith(".lock")] == []


def test_compose_hands_the_build_image_to_all_that_it_builds() -> None:
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"].values()
    builds = [service["build"] for service in services if "build" in service]
    assert {build["dockerfile"] for build in builds} == {
        str(path.relative_to(CHECKOUT)) for path in (*DOCKERFILES, SEAWEEDFS)
    }
    assert {build["args"]["BUILD_IMAGE"] for build in builds} == {"${HEARTH_BUILD_IMAGE:-python:3.11-slim-bookworm}"}


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    dotenv, path = load("deploy/docker/dotenv.py"), tmp_path / ".env"
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
    for project in load("deploy/docker/image.py").closure(service):
        missing = imported(project) - lock.keys()
        assert not missing, f"{project.name}/pyproject.toml does not name {missing}"
