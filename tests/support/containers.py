"""Hearth in containers for tests: docker-compose.yml as it is, built from this checkout, as a project of its own.

With SeaweedFS, without what only a registry has (Prometheus, Grafana, MinIO). On a free port of loopback, with volumes
that are new and go at the end.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hearth_local.models import EMBEDDING, embedding_source
from hearth_local.paths import CHECKOUT
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port

SERVICES = (
    "gateway", "management", "downloads", "dataset", "training", "inference-llm", "inference-embeddings", "redis",
    "seaweedfs",
)  # fmt: skip
HEALTHY_SECONDS = 180


def _command(*words: str, settings: Mapping[str, str] | None = None) -> str:
    """What a command says. Raises AssertionError with its own words where it fails."""
    done = subprocess.run(
        words, cwd=CHECKOUT, env={**os.environ, **(settings or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def check_engine() -> None:
    """Raise AssertionError where no Docker Engine answers."""
    asked = shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False)
    assert asked and asked.returncode == 0, "no Docker Engine answers (`docker info`): nothing was run in containers"


def host_address() -> str:
    """The address at which containers find this machine: the first of Docker's own bridge, unless that says another."""
    (bridge,) = json.loads(_command("docker", "network", "inspect", "bridge"))
    config = bridge["IPAM"]["Config"][0]
    return str(config.get("Gateway") or ip_network(config["Subnet"])[1])


@dataclass(frozen=True)
class Compose:
    """One project."""

    folder: Path  # its .env and imports
    settings: Mapping[str, str]
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Its public address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What docker-compose.yml takes its values from: that of `.env`, and what is this project's own."""
        lines = [line for line in (self.folder / ".env").read_text().splitlines() if not line.startswith("#")]
        return {
            **dict(line.split("=", 1) for line in lines),
            "COMPOSE_PROJECT_NAME": f"hearth-test-{os.getpid()}",
            "COMPOSE_PROFILES": "cpu,seaweedfs",
            "HEARTH_GATEWAY_PORT": str(self.port),
            "HEARTH_IMPORTS": str(self.folder / "imports"),
            **self.settings,
        }

    def run(self, *words: str) -> str:
        """A docker-compose command: version 2 where it is there."""
        version_2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        program = ("docker", "compose") if version_2 else ("docker-compose",)
        # without --env-file it would read the checkout's own
        return _command(*program, "--env-file", str(self.folder / ".env"), *words, settings=self.environment)

    def up(self, *scale: str) -> None:
        """Start what is missing, in these numbers, and wait until every container is healthy."""
        numbers = [word for each in scale for word in ("--scale", each)]
        self.run("up", "-d", *numbers, *SERVICES)
        self.await_healthy()

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine knows of them, those that are stopped too."""
        ids = self.run("ps", "-q", *services).split()
        found: list[dict[str, Any]] = json.loads(_command("docker", "inspect", *ids)) if ids else []
        return found

    def await_healthy(self, seconds: float = HEALTHY_SECONDS) -> None:
        """Until every container is: each has a health check."""
        for attempt in Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.5), reraise=True):
            with attempt:
                states = {each["Name"]: each["State"] for each in self.containers()}
                unwell = {name: state for name, state in states.items() if state["Health"]["Status"] != "healthy"}
                assert not unwell, unwell


@contextmanager
def composed(folder: Path, settings: Mapping[str, str]) -> Iterator[Compose]:
    """A project that is up; at the end it and its volumes are gone. `folder` must be readable by everyone."""
    _dotenv(folder / ".env")
    shutil.copytree(embedding_source(), folder / "imports" / EMBEDDING)
    compose = Compose(folder, settings)
    try:
        compose.run("build", *SERVICES)
        compose.up()
        yield compose
    finally:
        try:
            print(compose.run("logs", "--no-color", "--tail=40"))
        finally:
            compose.run("down", "--volumes", "--timeout", "20")


def _dotenv(path: Path) -> None:
    """What `make compose-up` makes."""
    spec = importlib.util.spec_from_file_location("dotenv_maker", CHECKOUT / "deploy" / "docker" / "dotenv.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(path)
