"""A real worker with a real trainer against real Redis and S3: how a fine-tune ends, and that nothing is left of it."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.finetune import Finetune
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.names import adapter_id_for, new_id
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.queues import TRAINING, enqueue, transaction
from hearth_jobs.store import JobStore
from hearth_local.paths import CHECKOUT, env_python
from hearth_storage.adapters import fetch_adapter, read_manifest
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import StoredModel, delete_model, record_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, DATASETS
from minio import Minio
from redis import Redis

pytestmark = pytest.mark.timeout(400)
PATIENCE_SECONDS = 180  # a run takes ten, on a machine with nothing else to do

T = TypeVar("T")
BASE = "tiny/llama"
SUPPORT = CHECKOUT / "tests" / "support"
SHORT = Hyperparameters(max_steps=10, batch_size=4, learning_rate=1e-2)
LONG = SHORT.model_copy(update={"max_steps": 160})  # a checkpoint every 16 steps
STEADY = SHORT.model_copy(update={"max_steps": 120, "lora_dropout": 0.02})  # dropout: random numbers must go on too
ENDLESS = SHORT.model_copy(update={"max_steps": 100_000})


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

    def begin(self, dataset_id: str, settings: Hyperparameters) -> Finetune:
        """Record and queue a fine-tune, as management does."""
        finetune_id = new_id()
        pipe = transaction(self.redis)
        job = self.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT_tiny", subject=finetune_id)
        finetune = Finetune(
            id=finetune_id, name="Tiny", model_id=BASE, dataset_id=dataset_id,
            adapter_id=adapter_id_for("Tiny", finetune_id), hyperparameters=settings, job_id=job.id, created_at=now(),
        )  # fmt: skip
        FinetuneStore(self.redis).put(pipe, finetune)
        enqueue(self.redis, TRAINING, job.id, pipe)
        pipe.execute()
        return finetune

    def resume(self, finetune: Finetune) -> Finetune:
        """Record and queue a new job for it, as management does."""
        pipe = transaction(self.redis)
        job = self.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT_tiny", subject=finetune.id)
        again = finetune.model_copy(update={"job_id": job.id})
        FinetuneStore(self.redis).put(pipe, again)
        enqueue(self.redis, TRAINING, job.id, pipe)
        pipe.execute()
        return again

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

    def told(self, finetune: Finetune) -> str:
        log = self.home.job_log(finetune.job_id)
        return f"{self.job(finetune)}\n{log.read_text()[-3000:] if log.exists() else '(no log)'}"

    @contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker; told to stop at the end, after which nothing of it may be left."""
        environment = {
            **os.environ,
            "HEARTH_HOME": str(self.home.home),
            "HEARTH_REDIS_URL": self.redis_url,
            "HEARTH_S3_ENDPOINT": self.s3_settings.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": self.s3_settings.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": self.s3_settings.s3_secret_key.get_secret_value(),
            "HEARTH_TRAINER_PYTHON": str(env_python("training")),
        }
        self.home.logs.mkdir(parents=True, exist_ok=True)
        with (self.home.logs / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "hearth_training"], env=environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            wait_for(lambda: not self.trainers(), 15, lambda: f"left: {self.trainers()}")

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


def resumed_at(place: Place, finetune: Finetune) -> int:
    """The step of the checkpoint that the job's log says it went on from."""
    (words,) = re.findall(r"goes on from the checkpoint of step (\d+)", place.home.job_log(finetune.job_id).read_text())
    return int(words)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> HomeSettings:
    """A home folder with the tiny model in its store."""
    home = HomeSettings(home=tmp_path_factory.mktemp("home"))
    add_base(home)
    return home


def add_base(home: HomeSettings) -> None:
    base = StoredModel(model_id=BASE, revision="main", size_bytes=1, license="apache-2.0", created_at=now())
    command = [env_python("training"), SUPPORT / "tiny_llama.py", snapshot_path(home.models, base)]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    record_model(home.models, base)


@pytest.fixture
def place(redis: Redis, redis_url: str, s3: Minio, s3_settings: S3Settings, home: HomeSettings) -> Place:
    return Place(redis, redis_url, s3, s3_settings, home)


def test_a_whole_run_leaves_an_adapter_that_can_be_verified(place: Place, tmp_path: Path) -> None:
    dataset = place.dataset()
    finetune = place.begin(dataset.id, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FINISHED, place.told(finetune)
    assert (job.progress, job.attempt) == (1, 1)

    folder = fetch_adapter(place.s3, finetune.adapter_id, tmp_path)  # raises if a hash is wrong
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    manifest = read_manifest(place.s3, finetune.adapter_id)
    assert manifest is not None
    assert (manifest.base_model_id, manifest.base_revision, manifest.license) == (BASE, "main", "apache-2.0")
    assert (manifest.finetune_id, manifest.dataset_id) == (finetune.id, dataset.id)
    assert (manifest.rank, manifest.dataset_sha256) == (SHORT.lora_rank, dataset.sha256)
    assert manifest.training["steps"] == 10
    assert list(place.curve(finetune)) == list(range(1, 11))
    # Its data and checkpoints are gone; what tells how it went stays.
    assert {path.name for path in (place.home.runs / finetune.id).iterdir()} == {"result.json", "run.json"}


def test_interrupted_while_training_it_is_killed_with_nothing_left(place: Place) -> None:
    finetune = place.begin(place.dataset().id, ENDLESS)
    with place.worker() as worker:
        place.until_step(finetune, 3)
        assert place.trainers()
        asked = place.jobs.interrupt(finetune.job_id)
        assert asked.status is JobStatus.RUNNING  # until its processes are gone
        job = place.over(finetune)
        assert not place.trainers()
        assert worker.poll() is None  # the worker is there for the next one
    assert job.status is JobStatus.KILLED
    assert job.error is None
    assert read_manifest(place.s3, finetune.adapter_id) is None


def test_its_worker_killed_the_training_dies_and_goes_on_from_its_checkpoint(place: Place, tmp_path: Path) -> None:
    finetune = place.begin(place.dataset().id, LONG)
    with place.worker() as first:
        place.until_step(finetune, 40)
        first.kill()
        first.wait()
        wait_for(lambda: not place.trainers(), 10, lambda: f"the trainer lives on: {place.trainers()}")
    assert place.job(finetune).status is JobStatus.RUNNING

    # What the reaper in management does once the lease has ended.
    (expired,) = wait_for(place.jobs.expired, 15, lambda: place.told(finetune))
    assert place.jobs.expire(expired, None, "waiting for another attempt") is JobStatus.RUNNING
    enqueue(place.redis, TRAINING, finetune.job_id)
    with place.worker():
        job = place.over(finetune)

    assert (job.status, job.attempt) == (JobStatus.FINISHED, 2), place.told(finetune)
    assert resumed_at(place, finetune) > 0
    assert list(place.curve(finetune)) == list(range(1, 161))  # what the dead worker had no time to pass on, too
    fetch_adapter(place.s3, finetune.adapter_id, tmp_path)


def test_interrupted_it_goes_on_elsewhere_from_its_checkpoint_in_s3_as_if_nothing_had_been(
    place: Place, tmp_path: Path
) -> None:
    dataset = place.dataset()
    undisturbed = place.begin(dataset.id, STEADY)
    with place.worker():
        assert place.over(undisturbed).status is JobStatus.FINISHED, place.told(undisturbed)
        finetune = place.begin(dataset.id, STEADY)
        place.until_step(finetune, 35)
        place.jobs.interrupt(finetune.job_id)
        assert place.over(finetune).status is JobStatus.KILLED
    stopped_at, _ = FinetuneStore(place.redis).facts(finetune.id)
    assert stopped_at is not None and stopped_at >= 35

    place.home = HomeSettings(home=tmp_path / "elsewhere")
    add_base(place.home)
    again = place.resume(finetune)
    with place.worker():
        assert place.over(again).status is JobStatus.FINISHED, place.told(again)

    assert resumed_at(place, again) == stopped_at
    assert place.curve(again) == pytest.approx(place.curve(undisturbed), rel=1e-4)
    adapter = fetch_adapter(place.s3, again.adapter_id, tmp_path / "copies")
    assert 'base_model: "tiny/llama"' in (adapter / "README.md").read_text()
    left = place.s3.list_objects(bucket_name=ARTIFACTS, prefix="checkpoints/", recursive=True)
    assert list(left) == []  # of no use once the adapter is there


def test_a_deleted_dataset_fails_the_job_with_words(place: Place) -> None:
    missing = new_id()
    finetune = place.begin(missing, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error == f"dataset {missing} has been deleted; upload it again and begin a new fine-tune"


def test_a_dataset_that_was_changed_in_the_store_is_not_trained_on(place: Place) -> None:
    dataset = place.dataset()
    body = b'{"messages": []}\n'
    place.s3.put_object(
        bucket_name=DATASETS, object_name=f"{dataset.id}/data.jsonl", data=BytesIO(body), length=len(body)
    )
    finetune = place.begin(dataset.id, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error is not None and dataset.id in job.error and "upload the file again" in job.error
    assert not (place.home.runs / finetune.id / "data.jsonl").exists()


def test_a_deleted_base_model_fails_the_job_with_words(place: Place, tmp_path: Path) -> None:
    place.home = HomeSettings(home=tmp_path)
    place.home.models.mkdir()
    delete_model(place.home.models, BASE)
    finetune = place.begin(place.dataset().id, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error == f"the base model {BASE} is no longer there; add it and begin a new fine-tune"
