"""Hearth in containers for tests: docker-compose.yml as it is, built from this checkout, as a project of its own.

With SeaweedFS, without what only a registry has (Grafana, MinIO, Jaeger). On a free port of loopback, with volumes
that are new and go at the end.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
from hearth_local.models import EMBEDDING, embedding_source
from hearth_local.paths import CHECKOUT
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.modules import load
from tests.support.servers import free_port
from tests.support.stores_in_containers import image_of

SERVICES = (
    "gateway", "management", "downloads", "dataset", "training", "inference-llm", "inference-embeddings", "redis",
    "seaweedfs",
)  # fmt: skip
COMPOSE = (sys.executable, str(CHECKOUT / "deploy" / "docker" / "compose.py"))
HEALTHY_SECONDS = 180
DEBIANS_PROMETHEUS = """
FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -qy --no-install-recommends prometheus \\
    && install -d -o nobody -g nogroup /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
"""


def _command(*words: str, settings: Mapping[str, str] | None = None, said: str | None = None) -> str:
    """What a command says, that is told `said`. Raises AssertionError with its own words where it fails."""
    env = {**os.environ, **(settings or {})}
    done = subprocess.run(words, cwd=CHECKOUT, env=env, input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def _works(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def check_engine() -> None:
    """Raise AssertionError where no Docker Engine answers."""
    answers = shutil.which("docker") and _works("docker", "info")
    assert answers, "no Docker Engine answers (`docker info`): nothing was run in containers"


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
        """A command of compose's."""
        # without --env-file it would read the checkout's own
        return _command(*COMPOSE, "--env-file", str(self.folder / ".env"), *words, settings=self.environment)

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

    def address(self, service: str) -> str:
        """Where this machine finds it on the project's own network, which is not published."""
        (box,) = self.containers(service)
        networks = box["NetworkSettings"]["Networks"]
        return str(next(each["IPAddress"] for name, each in networks.items() if name.endswith("_inside")))

    @contextmanager
    def prometheus(self) -> Iterator[httpx.Client]:
        """Compose's own; gives a client of its API. Without a registry its image is made here, of Debian's package."""
        image = image_of("prometheus")
        made = not any(_works("docker", *words, image) for words in (("image", "inspect"), ("pull",)))
        if made:
            _command("docker", "build", "--tag", image, "-", said=DEBIANS_PROMETHEUS)
        try:
            self.run("up", "-d", "prometheus")
            self.await_healthy()
            with httpx.Client(base_url=f"http://{self.address('prometheus')}:9090", trust_env=False) as client:
                yield client
        finally:
            self.run("rm", "--stop", "--force", "prometheus")
            if made:
                _command("docker", "image", "rm", image)

    def kill(self, service: str) -> None:
        """End a container's first process as nothing on it can hold up: all others of it go with that."""
        os.kill(self.containers(service)[0]["State"]["Pid"], signal.SIGKILL)

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
    load("deploy/docker/dotenv.py").make(folder / ".env")  # what `make compose-up` makes
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
