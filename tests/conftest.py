"""A whole platform of the tests' own, started once a session: free ports, a scratch folder, a hub-compatible server.

The tests of tests/e2e and tests/contract share it, with one model, one dataset, one trained adapter and one deployment.
A test may add to what is there; one that takes away from it is marked `last`.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hearth_local.config import Config, Ports
from hearth_local.paths import env_python
from hearth_local.platform import Platform
from rich.console import Console
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.containers import Compose, check_engine, composed, host_address
from tests.support.hub import HubServer
from tests.support.servers import free_port

MODEL_ID = "acme/tiny-llama"
OTHER_MODEL_ID = "acme/another-llama"  # on the hub, and not added yet
CONSOLE_MODEL_ID = "acme/console-llama"  # the same, for the browser
CONVERSATIONS = Path("tests/support/conversations.jsonl")
HYPERPARAMETERS = {"max_steps": 80, "batch_size": 8, "learning_rate": 1e-2, "lora_rank": 16, "lora_alpha": 32}
EMBEDDING_SECONDS = 180
JOB_SECONDS = 240


@dataclass(frozen=True)
class Running:
    """The platform, and how to talk to it."""

    platform: Platform | Compose
    http: httpx.Client
    model_id: str

    @property
    def url(self) -> str:
        """Its public address."""
        return self.platform.url

    def await_embedding(self) -> None:
        """Until the embedding model answers."""
        for attempt in _asking(EMBEDDING_SECONDS):
            with attempt:
                names = {entry["id"] for entry in self.http.get("/v1/models").json()["data"]}
                assert "Compressa-Embedding" in names

    def await_job(self, job: dict[str, Any], seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """The job once it is over; its progress must never go back on the way."""
        progress = [0.0]
        for attempt in _asking(seconds):
            with attempt:
                job = self.http.get(f"/api/v1/jobs/{job['id']}/status/").json()
                progress.append(job["progress"])
                assert job["status"] in {"FINISHED", "FAILED", "KILLED"}, job
        assert progress == sorted(progress)
        return job

    def await_ready(self, job_id: str, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """The deployment's status once it is READY."""
        status: dict[str, Any] = {}
        for attempt in _asking(seconds):
            with attempt:
                status = self.http.get("/api/v1/deploy/status/").json()
                assert status["job"]["id"] == job_id, status
                assert status["state"] != "LOADING", status
        assert status["state"] == "READY", status
        return status


def _asking(seconds: float) -> Retrying:
    """Ask again until the assertions hold; not all the time, or the asking would take a core from what is awaited."""
    return Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.2), reraise=True)


def pytest_configure() -> None:
    """A run that is terminated, say for its time, stops its platform as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is about containers alone is run with `--compose`, which needs a Docker Engine: CI has none."""
    return True if collection_path.name == "compose" and not config.getoption("--compose") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `last` come after all others, which need what they take away."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's folder with the tiny Llama in it, under three names."""
    root = tmp_path_factory.mktemp("hub")
    script = Path(__file__).parent / "support" / "tiny_llama.py"
    made = subprocess.run(
        [str(env_python("training")), str(script), str(root / MODEL_ID)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    for other in (OTHER_MODEL_ID, CONSOLE_MODEL_ID):
        shutil.copytree(root / MODEL_ID, root / other)
    return root


@pytest.fixture(scope="session")
def platform(
    request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The platform, started by the first test that asks for it: as processes, or with `--compose` in containers."""
    start = (
        _in_containers(tiny_llama)
        if request.config.getoption("--compose")
        else _as_processes(tiny_llama, tmp_path_factory.mktemp("h"))
    )
    with start as running, httpx.Client(base_url=running.url, timeout=60, trust_env=False) as http:
        yield Running(running, http, MODEL_ID)


@contextmanager
def _as_processes(hub_folder: Path, home: Path) -> Iterator[Platform]:
    log = io.StringIO()
    with HubServer(hub_folder) as hub:
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HEARTH_TOOL_CALL_PARSER": "hermes",
            "HEARTH_METRICS_PORT": str(free_port()),
        }
        config = Config(home, Ports.free(), settings)
        running = Platform(config)
        running.start(Console(file=log))
        try:
            yield running
        finally:
            running.stop(Console(file=log))
            if os.environ.get("CI"):  # what a failure in CI leaves nobody to look at
                for path in sorted(config.logs.glob("*.log")):
                    print(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")


@contextmanager
def _in_containers(hub_folder: Path) -> Iterator[Compose]:
    check_engine()
    with tempfile.TemporaryDirectory(prefix="hearth-compose-") as name, HubServer(hub_folder, host_address()) as hub:
        folder = Path(name)
        folder.chmod(0o755)  # a container's user reads it
        with composed(folder, {"HF_ENDPOINT": hub.url}) as compose:
            yield compose


@pytest.fixture(scope="session")
def model_id(platform: Running) -> str:
    """The tiny model, downloaded from the hub-compatible server by the platform itself."""
    reply = platform.http.post("/api/v1/models/add/", params={"model_id": platform.model_id})
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert job["name"] == f"DOWNLOAD_{platform.model_id}"
    job = platform.await_job(job)
    assert job["status"] == "FINISHED", job
    return platform.model_id


@pytest.fixture(scope="session")
def dataset_id(platform: Running) -> str:
    """Questions and answers that the base does not know."""
    with CONVERSATIONS.open("rb") as file:
        reply = platform.http.post(
            "/api/v1/datasets/upload/", params={"description": "My Description"}, files={"file": ("train.jsonl", file)}
        )
    assert reply.status_code == 200, reply.text
    dataset = reply.json()
    assert dataset["s3_path"] == f"{dataset['id']}/metadata.json"
    assert (dataset["name"], dataset["description"]) == ("train.jsonl", "My Description")
    return str(dataset["id"])


@pytest.fixture(scope="session")
def adapter_id(platform: Running, model_id: str, dataset_id: str) -> str:
    """An adapter that was taught the dataset."""
    body = {
        "name": "My Adapter Training",
        "model_id": model_id,
        "dataset_id": dataset_id,
        "hyperparameters": HYPERPARAMETERS,
    }
    reply = platform.http.post("/api/v1/finetune/", json=body)
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert job["name"] == f"FT_{model_id}_{dataset_id}"
    job = platform.await_job(job)
    assert job["status"] == "FINISHED", job
    status = platform.http.get("/api/v1/finetune/status/").json()
    assert status["job"]["id"] == job["id"]
    return str(status["adapter_id"])


@pytest.fixture(scope="session")
def deployed(platform: Running, model_id: str, adapter_id: str) -> dict[str, Any]:
    """The deployment's status: base and adapter answer."""
    reply = platform.http.post("/api/v1/deploy/", json={"model_id": model_id, "adapter_ids": [adapter_id]})
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert job["name"] == f"DEPLOY_{model_id}_adapters_{adapter_id}"
    return platform.await_ready(job["id"])


@pytest.fixture(scope="session")
def taught() -> list[tuple[str, str]]:
    """The questions and answers of the dataset, each once."""
    pairs = {}
    for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        pairs[messages[-2]["content"]] = messages[-1]["content"]
    return list(pairs.items())
