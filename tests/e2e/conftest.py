"""A whole platform of the tests' own: free ports, a scratch folder, and a hub-compatible server to download from."""

import io
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hearth_local.config import DEFAULT_PORTS, Config, Ports
from hearth_local.paths import env_python
from hearth_local.platform import Platform
from rich.console import Console

from tests.support.hub import HubServer
from tests.support.servers import free_ports

MODEL_ID = "acme/tiny-llama"
EMBEDDING_SECONDS = 180


@dataclass(frozen=True)
class Running:
    """The platform, and how to talk to it."""

    platform: Platform
    http: httpx.Client
    model_id: str

    @property
    def url(self) -> str:
        """Its public address."""
        return self.platform.url

    def await_embedding(self) -> None:
        """Until the embedding model answers."""
        deadline = time.monotonic() + EMBEDDING_SECONDS
        while time.monotonic() < deadline:
            names = {entry["id"] for entry in self.http.get("/v1/models").json()["data"]}
            if "Compressa-Embedding" in names:
                return
        raise AssertionError(f"no embedding model after {EMBEDDING_SECONDS} s: {names}")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's folder with the tiny Llama in it."""
    root = tmp_path_factory.mktemp("hub")
    script = Path(__file__).parents[1] / "support" / "tiny_llama.py"
    made = subprocess.run(
        [str(env_python("training")), str(script), str(root / MODEL_ID)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return root


@pytest.fixture(scope="session")
def platform(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Started once; the tests of a file share what is deployed on it."""
    home = tmp_path_factory.mktemp("h")
    main, inner = free_ports(len(DEFAULT_PORTS)), free_ports(1)
    ports = Ports.of({**dict(zip(DEFAULT_PORTS, main, strict=True)), "s3": inner[0]})
    log = io.StringIO()
    with HubServer(tiny_llama) as hub:
        config = Config(home, ports, {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"})
        running = Platform(config)
        running.start(Console(file=log))
        try:
            with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as http:
                yield Running(running, http, MODEL_ID)
        finally:
            running.stop(Console(file=log))
            if os.environ.get("CI"):  # what a failure in CI leaves nobody to look at
                for path in sorted(config.logs.glob("*.log")):
                    print(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")
