"""What the worker's tests share: stores, a home folder with a tiny model in it, and real workers."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType
from typing import Any, TypeVar

import psutil
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.finetune import Finetune, Resources
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobKind
from hearth_contracts.models import MergeSubject, StoredModel
from hearth_contracts.names import adapter_id_for, new_id
from hearth_jobs.finetunes import FinetuneStore, lane_for
from hearth_jobs.queues import TRAINING, enqueue, transaction
from hearth_jobs.store import JobStore
from hearth_local.paths import CHECKOUT, env_python
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import record_model, snapshot_path
from hearth_storage.objects import DATASETS
from minio import Minio
from redis import Redis

from tests.support.ray_nodes import RayCluster

PATIENCE_SECONDS = 180  # a run takes ten, on a machine with nothing else to do

T = TypeVar("T")
BASE = "tiny/llama"
SUPPORT = CHECKOUT / "tests" / "support"
ONE = Resources()
SHORT = Hyperparameters(max_steps=10, batch_size=4, learning_rate=1e-2)


def wait_for(what: Callable[[], T | None], seconds: float, words: Callable[[], object]) -> T:
    """The first true value of `what`."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, words()
        time.sleep(0.05)
    return value


@dataclass
class Place:
    """Stores and a home folder of a test, and the workers it starts."""

    redis: Redis
    redis_url: str
    s3: Minio
    s3_settings: S3Settings
    home: HomeSettings
    ray: RayCluster | None = None  # where its workers' runs train, if not on this machine
    jobs: JobStore = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.redis)

    def dataset(self) -> Dataset:
        body = (SUPPORT / "conversations.jsonl").read_bytes()
        dataset_id = new_id()
        dataset = Dataset(
            id=dataset_id, name="conversations.jsonl", s3_path=f"{dataset_id}/metadata.json", description=None,
            format=DatasetFormat.MESSAGES, rows=10, turns=20, bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(), created_at=now(),
        )  # fmt: skip
        for name, content in (("data.jsonl", body), ("metadata.json", dataset.model_dump_json().encode())):
            self.s3.put_object(
                bucket_name=DATASETS, object_name=f"{dataset_id}/{name}", data=BytesIO(content), length=len(content)
            )
        return dataset

    def begin(self, dataset_id: str, settings: Hyperparameters, resources: Resources = ONE) -> Finetune:
        """Record and queue a fine-tune, as management does."""
        finetune_id = new_id()
        pipe = transaction(self.redis)
        job = self.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT_tiny", subject=finetune_id)
        finetune = Finetune(
            id=finetune_id, name="Tiny", model_id=BASE, dataset_id=dataset_id,
            adapter_id=adapter_id_for("Tiny", finetune_id), hyperparameters=settings, job_id=job.id, created_at=now(),
            resources=resources,
        )  # fmt: skip
        FinetuneStore(self.redis).put(pipe, finetune)
        enqueue(self.redis, lane_for(finetune), job.id, pipe)
        pipe.execute()
        return finetune

    def resume(self, finetune: Finetune) -> Finetune:
        """Record and queue a new job for it, as management does."""
        pipe = transaction(self.redis)
        job = self.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT_tiny", subject=finetune.id)
        again = finetune.model_copy(update={"job_id": job.id})
        FinetuneStore(self.redis).put(pipe, again)
        enqueue(self.redis, lane_for(again), job.id, pipe)
        pipe.execute()
        return again

    def merge(self, adapter_id: str, model_id: str) -> Job:
        """Record and queue a merge, as management does."""
        subject = MergeSubject(adapter_id=adapter_id, model_id=model_id).model_dump_json()
        pipe = transaction(self.redis)
        job = self.jobs.create(pipe, kind=JobKind.MERGE, name="MERGE_tiny", subject=subject)
        enqueue(self.redis, TRAINING, job.id, pipe)
        pipe.execute()
        wait_for(lambda: self.jobs.get(job.id).status.is_over, PATIENCE_SECONDS, lambda: self.jobs.get(job.id))
        return self.jobs.get(job.id)

    def job(self, finetune: Finetune) -> Job:
        return self.jobs.get(finetune.job_id)

    def over(self, finetune: Finetune) -> Job:
        wait_for(lambda: self.job(finetune).status.is_over, PATIENCE_SECONDS, lambda: self.told(finetune))
        return self.job(finetune)

    def until_step(self, finetune: Finetune, step: int) -> None:
        """Wait until the training has reported `step`."""
        wait_for(lambda: step <= max(self.curve(finetune), default=0), PATIENCE_SECONDS, lambda: self.told(finetune))

    def curve(self, finetune: Finetune) -> dict[int, float | None]:
        return {point.step: point.loss for point in FinetuneStore(self.redis).points(finetune.id)}

    def resumed_at(self, finetune: Finetune) -> int:
        """The step of the checkpoint that the job's log says it went on from."""
        (words,) = re.findall(r"goes on from the checkpoint of step (\d+)", self.log(finetune))
        return int(words)

    def log(self, finetune: Finetune) -> str:
        path = self.home.job_log(finetune.job_id)
        return path.read_text() if path.exists() else "(no log)"

    def told(self, finetune: Finetune) -> str:
        return f"{self.job(finetune)}\n{self.log(finetune)[-3000:]}"

    @contextmanager
    def worker(
        self, *, warm: bool = False, within: Sequence[str] = (), variables: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker, with a trainer that stands by if `warm`; told to stop at the end, and nothing of it may be left.

        It is started by the command `within`, if any, and with `variables` besides those of the place.
        """
        environment = {
            **os.environ,
            "HEARTH_HOME": str(self.home.home),
            "HEARTH_REDIS_URL": self.redis_url,
            "HEARTH_S3_ENDPOINT": self.s3_settings.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": self.s3_settings.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": self.s3_settings.s3_secret_key.get_secret_value(),
            "HEARTH_TRAINER_PYTHON": str(env_python("ray" if self.ray else "training")),
            "HEARTH_TRAINER_WARM": str(warm).lower(),
            "HEARTH_TRAINING_EXECUTOR": "ray" if self.ray else "local",
            "HEARTH_RAY_ADDRESS": self.ray.address if self.ray else "auto",
            "OMP_NUM_THREADS": "1",  # what Ray sets for one core: the same sums in the same order, here and there
            **variables,
        }
        self.home.logs.mkdir(parents=True, exist_ok=True)
        with (self.home.logs / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [*within, sys.executable, "-m", "hearth_training"], env=environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            wait_for(lambda: not self.left(), 15, lambda: f"left: {self.left()}")

    def left(self) -> list[Any]:
        """All that works on a run, here and on the cluster."""
        return [*self.trainers(), *(self.ray.trainers() if self.ray else [])]

    def trainers(self) -> list[psutil.Process]:
        """Every living process, guards included, whose command line names this home folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.home.home) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def add_base(home: HomeSettings) -> None:
    """Put the tiny model into its store."""
    base = StoredModel(model_id=BASE, revision="main", size_bytes=1, license="apache-2.0", created_at=now())
    command = [env_python("training"), SUPPORT / "tiny_llama.py", snapshot_path(home.models, base)]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    record_model(home.models, base)
