"""Real engines on tiny models, run by real workers against real Redis and S3."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest
from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine, NodeReport
from hearth_contracts.engine import EngineSettings
from hearth_contracts.jobs import Job
from hearth_contracts.models import StoredModel
from hearth_jobs import owners
from hearth_jobs.deployments import DeploymentStore, lane_for
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.queues import enqueue
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_storage.adapters import store_adapter
from hearth_storage.bundles import describe
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import model_folder, record_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from minio import Minio
from redis import Redis

from services.inference.tests.nodes import Stage
from tests.support.hub import HubServer
from tests.support.servers import valkey

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
ENVS = ROOT / ".envs"
SUPPORT = ROOT / "tests" / "support"

_LORA = """
import sys, torch
from pathlib import Path
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
base, *outs = sys.argv[1:]
names = ["q_proj", "v_proj", "o_proj", "down_proj"]
for seed, out in enumerate(outs):
    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=64, target_modules=names, init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(out)
"""


def wait_for(what: Callable[[], T | None], seconds: float, words: str = "") -> T:
    """The first true value of `what`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := what():
            return value
        assert time.monotonic() < deadline, words or f"not within {seconds} s"
        time.sleep(0.05)


def add_model(home: HomeSettings, model_id: str, make: Callable[[Path], object]) -> Path:
    """Put a model into the store; `make` fills its folder."""
    model = StoredModel(model_id=model_id, revision="main", size_bytes=1, license=None, created_at=now())
    folder = snapshot_path(home.models, model)
    folder.parent.mkdir(parents=True)
    make(folder)
    assert model_folder(home.models, model_id).is_dir()
    record_model(home.models, model)
    return folder


def script(environment: str, *arguments: str) -> None:
    """Run a script in one of the environments."""
    done = subprocess.run([ENVS / environment / "bin" / "python", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass
class Place:
    """Redis, S3 and a home folder, shared by the tests of a module."""

    redis: Redis
    s3_settings: S3Settings
    home: HomeSettings

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.redis)
        self.deployments = DeploymentStore(self.redis, self.jobs)
        self.nodes = NodeRegistry(self.redis)

    def deploy(
        self,
        model_id: str,
        *adapter_ids: str,
        name: str = "default",
        engine: Engine = Engine.VLLM,
        settings: EngineSettings | None = None,
    ) -> Job:
        served = "LLM" if engine is Engine.VLLM else "Emb"
        spec, job = self.deployments.desire(
            name, engine=engine, model_id=model_id, adapter_ids=adapter_ids, served_name=served, settings=settings
        )
        assert isinstance(spec, DeploymentSpec)
        return job

    def report(self) -> NodeReport | None:
        return next(iter(self.nodes.live()), None)

    def ready(self, job: Job, seconds: float = 240) -> NodeReport:
        """The report, once the job's version is READY."""

        def look() -> NodeReport | None:
            record, report = self.deployments.get(self.jobs.subject(job.id)), self.report()
            current = self.jobs.get(job.id)
            assert not current.status.is_over, current
            desired = record.desired if record else None
            good = report and desired and report.state is DeploymentState.READY
            return report if good and report.generation == desired.generation else None  # type: ignore[union-attr]

        return wait_for(look, seconds)

    def over(self, job: Job, seconds: float = 60) -> Job:
        wait_for(lambda: self.jobs.get(job.id).status.is_over, seconds)
        return self.jobs.get(job.id)

    def bury_the_dead(self) -> None:
        """What the reconciler does with jobs and replicas whose worker is proven gone."""
        for held in self.jobs.running():
            owner = owners.parse(held.owner)
            if owner and wait_for(lambda owner=owner: owners.is_gone(owner), 20):  # type: ignore[misc]
                self.jobs.expire(held, None, "waiting for an inference node", proven=True)
        for replica in ReplicaStore(self.redis).held():
            owner = owners.parse(replica.owner)
            if owner and owners.is_gone(owner):
                assert ReplicaStore(self.redis).free(replica, proven=True)

    def requeue(self, name: str, engine: Engine) -> None:
        """What the reconciler does for a deployment nobody serves."""
        enqueue(self.redis, lane_for(engine), name)

    @contextmanager
    def worker(self, engine: Engine, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker as a process of its own; told to stop at the end, and then nothing of it may be left."""
        port = self.redis.connection_pool.connection_kwargs["port"]
        environment = {
            **os.environ,
            "HEARTH_HOME": str(self.home.home),
            "HEARTH_REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "HEARTH_S3_ENDPOINT": self.s3_settings.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": self.s3_settings.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": self.s3_settings.s3_secret_key.get_secret_value(),
            "HEARTH_ENGINE": engine.value,
            "HEARTH_ENGINE_PYTHON": str(ENVS / engine.value / "bin" / "python"),
            **settings,
        }
        log = self.home.logs / f"worker-{engine.value}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "hearth_inference"], env=environment, stdout=out, stderr=out
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
            wait_for(lambda: not self.processes(), 20, f"left: {self.processes()}")

    def processes(self) -> list[psutil.Process]:
        """Every process that works in this home folder or was started for it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if str(self.home.home) in process.environ().get("HOME", ""):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, s3_settings: S3Settings) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    ensure_bucket(connect_s3(s3_settings), ARTIFACTS)
    with valkey(folder / "valkey") as redis:
        yield Place(redis, s3_settings, HomeSettings(home=folder / "home"))


def add_adapters(place: Place, base: Path, base_id: str, *adapter_ids: str) -> None:
    """Make LoRA adapters with random weights, each different, and store them."""
    folders = [place.home.home / "made" / adapter_id for adapter_id in adapter_ids]
    script("training", "-c", _LORA, str(base), *map(str, folders))
    for adapter_id, folder in zip(adapter_ids, folders, strict=True):
        manifest = AdapterManifest(
            adapter_id=adapter_id, base_model_id=base_id, base_revision="main", rank=8, target_modules=("q_proj",),
            files=describe(folder), finetune_id="", dataset_id="", dataset_sha256="", created_at=now(),
        )  # fmt: skip
        store_adapter(connect_s3(place.s3_settings), folder, manifest)


def complete(report: NodeReport, model: str) -> httpx.Response:
    """Ask an engine for a few tokens."""
    body = {"model": model, "prompt": "What is the capital", "max_tokens": 12, "temperature": 0}
    return httpx.post(f"{report.url}/v1/completions", json=body, timeout=60)


@pytest.fixture
def stage(
    redis: Redis, s3: Minio, s3_settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    monkeypatch.setattr("hearth_inference.process._ROUTES_SECONDS", 0.1)  # there is no gateway
    (tmp_path / "hub").mkdir()
    with HubServer(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        stage = Stage(redis, root=tmp_path, s3=s3, s3_settings=s3_settings, hub=hub)
        yield stage
        stage.leave_all()
