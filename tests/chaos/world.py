"""A real platform to harm: its stores, its public address, and everything it ever acknowledged."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from hearth_contracts.jobs import Job
from hearth_jobs.store import JobStore
from hearth_local.config import DEFAULT_PORTS, S3_INNER, Config, Ports, load_secrets
from hearth_local.paths import CHECKOUT, env_python
from hearth_local.platform import Platform
from hearth_local.programs import PROGRAMS, Context, s3_client
from minio import Minio
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console

from tests.support.hub import HubServer
from tests.support.servers import free_ports, free_row

T = TypeVar("T")
BASE = "acme/tiny-llama"
OTHER_BASE = "acme/tiny-other"
HEAVY_BYTES = 24 * 2**20
RECOVERY_SECONDS = 420.0
"""Longest wait for the platform to be well again: on a loaded machine with two cores an engine starts in minutes."""


class NotRecovered(AssertionError):
    """The platform was not well again in time."""


@dataclass
class World:
    """Where it runs, and what it has acknowledged."""

    platform: Platform
    hub: HubServer
    http: httpx.Client
    redis: Redis
    s3: Minio
    home_bytes: int | None = None  # the size of the disk that its data has for itself
    acknowledged: list[str] = field(default_factory=list)  # job ids
    datasets: list[str] = field(default_factory=list)
    adapters: list[str] = field(default_factory=list)
    models_made: int = 0

    @property
    def jobs(self) -> JobStore:
        """The records, as they lie in Redis."""
        return JobStore(self.redis)

    @property
    def home(self) -> Path:
        """All the platform's data."""
        return self.platform.home

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Ask for something as a patient client does: again while the part that answers is away."""

        def attempt() -> httpx.Response | None:
            with contextlib.suppress(httpx.HTTPError):
                reply = self.http.request(method, f"/api/v1/{path}", **options)
                if reply.status_code not in (502, 503, 504):
                    return reply
            return None

        reply = wait_for(attempt, RECOVERY_SECONDS, f"{method} {path} was not answered")
        if reply.status_code >= 400:
            raise AssertionError(f"{method} {path}: {reply.status_code} {reply.text}")
        body = reply.json() if reply.content else None
        if isinstance(body, dict) and "kind" in body and body["id"] not in self.acknowledged:
            self.acknowledged.append(body["id"])
        return body

    def add_heavy_model(self, seconds: float) -> str:
        """Begin a download that takes so long. Returns its job's id."""
        self.hub.bytes_per_second = int(HEAVY_BYTES / seconds)
        self.models_made += 1
        name = f"acme/heavy-{self.models_made}"
        (self.hub.root / name).symlink_to(self.hub.root / "acme/heavy", target_is_directory=True)
        return str(self.call("POST", "models/add/", params={"model_id": name})["id"])

    def forget_heavy_models(self) -> None:
        """Delete those that are there; a disk has room for some."""
        for model in self.call("GET", "models/"):
            if model["model_id"].startswith("acme/heavy-"):
                self.call("DELETE", f"models/{model['model_id']}/")

    def begin_training(self, steps: int) -> str:
        """Returns its job's id."""
        body = {
            "name": f"Chaos {len(self.acknowledged)}",
            "model_id": BASE,
            "dataset_id": self.datasets[0],
            "hyperparameters": {"max_steps": steps, "batch_size": 4, "learning_rate": 1e-2},
        }
        return str(self.call("POST", "finetune/", json=body)["id"])

    def adapter(self) -> str:
        """A trained adapter for BASE, made when it is first needed."""
        if not self.adapters:
            job = self.await_over(self.begin_training(20))
            assert job["status"] == "FINISHED", f"no adapter: {job}"
            self.adapters.append(str(self.call("GET", "finetune/status/")["adapter_id"]))
        return self.adapters[0]

    def deploy(self, model_id: str, *adapter_ids: str) -> str:
        """Returns its job's id."""
        return str(self.call("POST", "deploy/", json={"model_id": model_id, "adapter_ids": adapter_ids})["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """As the platform tells it."""
        return dict(self.call("GET", f"jobs/{job_id}/status/"))

    def await_over(self, job_id: str) -> dict[str, Any]:
        """The job once it is over."""
        return wait_for(
            lambda: (job := self.job(job_id))["status"] in ("FINISHED", "FAILED", "KILLED") and job,
            RECOVERY_SECONDS,
            f"job {job_id} is not over",
        )

    def await_stage(self, job_id: str, reached: Callable[[Job], bool], since: Job | None = None) -> bool:
        """Until the record says so, held by a living process and newer than `since`. False: the job was over first."""

        def there() -> Job | None:
            with contextlib.suppress(RedisError):
                job = self.jobs.get(job_id)
                moved = since is None or (job.attempt, job.progress) > (since.attempt, since.progress)
                if job.status.is_over or (moved and reached(job) and not job.stage.startswith("waiting")):
                    return job
            return None

        return not wait_for(there, RECOVERY_SECONDS, f"job {job_id} did not come so far").status.is_over

    def ask(self, model: str = "Compressa-LLM", seconds: float = 30) -> int:
        """The status of a small completion; 0 when there was no answer."""
        body = {"model": model, "prompt": "Hello", "max_tokens": 4}
        try:
            return self.http.post("/v1/completions", json=body, timeout=seconds).status_code
        except httpx.HTTPError:
            return 0

    def deploy_state(self) -> dict[str, Any] | None:
        """deploy/status, or None when nothing is deployed or nobody answers."""
        with contextlib.suppress(httpx.HTTPError):
            reply = self.http.get("/api/v1/deploy/status/")
            return dict(reply.json()) if reply.status_code == 200 else None
        return None

    def await_serving(self, job_id: str) -> None:
        """Until this version is READY and a request is answered."""

        def serves() -> bool:
            state = self.deploy_state()
            if state and state["job"]["id"] == job_id and state["job"]["status"] == "FAILED":
                raise AssertionError(f"the deployment was given up: {state['job']['error']}")
            ready = state and state["job"]["id"] == job_id and state["state"] == "READY"
            return bool(ready and self.ask() == 200)

        wait_for(serves, RECOVERY_SECONDS, f"deployment {job_id} does not serve: {self.deploy_state()}")


def wait_for(what: Callable[[], T | None], seconds: float, words: str) -> T:
    """The first true value of `what`. Raises NotRecovered."""
    deadline = time.monotonic() + seconds
    over = threading.Event()
    while not (value := what()):
        if time.monotonic() > deadline:
            raise NotRecovered(f"{words} (after {seconds:.0f} s)")
        over.wait(0.1)
    return value


@contextlib.contextmanager
def _disk(path: Path, size: int | None) -> Iterator[None]:
    """A file system of its own at `path`, of so many bytes; root alone may make one. Without a size, none."""
    if size is None:
        yield
        return
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@contextlib.contextmanager
def running(folder: Path, home_bytes: int | None = None, *, warm: bool = False) -> Iterator[World]:
    """A platform with a model in its hub and a dataset; no process of it is left at the end.

    With `home_bytes` all its data lies on a small file system of its own, in memory. `warm`: a trainer stands by.
    """
    hub_root = folder / "hub"
    script = CHECKOUT / "tests" / "support" / "tiny_llama.py"
    subprocess.run([env_python("training"), script, hub_root / BASE], check=True, capture_output=True)
    for name in (OTHER_BASE, "acme/heavy"):
        shutil.copytree(hub_root / BASE, hub_root / name)
    _write_weights(hub_root / "acme/heavy/more.safetensors", HEAVY_BYTES)
    main = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
    ports = Ports.of({**main, "s3": free_row(1 + len(S3_INNER))})
    with HubServer(hub_root) as hub, _disk(folder / "home", home_bytes):
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HEARTH_EMBEDDING_MODEL": "",
            "HEARTH_MAX_ATTEMPTS": "20",  # the faults are ours, and many
            "HEARTH_ENGINE_MAX_RESTARTS": "20",
            "HEARTH_TRAINER_WARM": str(warm),
        }
        config = Config(folder / "home", ports, settings)
        platform = Platform(config, [program for program in PROGRAMS if "infinity" not in program.needs])
        platform.start(Console(file=io.StringIO()))
        context = Context(config, load_secrets(config))
        try:
            with httpx.Client(base_url=platform.url, timeout=60, trust_env=False) as http, context.redis() as redis:
                world = World(platform, hub, http, redis, s3_client(context), home_bytes)
                for name in (BASE, OTHER_BASE):
                    job = world.call("POST", "models/add/", params={"model_id": name})
                    assert world.await_over(job["id"])["status"] == "FINISHED"
                with (CHECKOUT / "tests" / "support" / "conversations.jsonl").open("rb") as rows:
                    upload = world.call("POST", "datasets/upload/", files={"file": ("train.jsonl", rows)})
                world.datasets.append(upload["id"])
                yield world
        finally:
            platform.stop(Console(file=io.StringIO()))
            shutil.copytree(config.logs, folder / "logs")


def _write_weights(path: Path, size: int) -> None:
    """A valid safetensors file of random bytes."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + os.urandom(size))
