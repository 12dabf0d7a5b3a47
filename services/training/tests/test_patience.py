"""S3 away while a run needs it: it waits and says so; nobody listens at the address, then a real server does."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs.attempt import Attempt, with_attempt
from hearth_jobs.store import JobStore
from hearth_storage.config import S3Settings
from hearth_storage.objects import ARTIFACTS, connect, ensure_bucket
from hearth_training.patience import patiently
from minio import Minio
from pydantic import SecretStr
from redis import Redis
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.support.servers import S3_KEYS, free_port, s3_server

STORING = "storing the adapter"


@pytest.fixture
def store(redis: Redis) -> JobStore:
    return JobStore(redis)


@pytest.fixture
def job(store: JobStore) -> Job:
    pipe = store.redis.pipeline(transaction=True)
    job = store.create(pipe, kind=JobKind.FINETUNE, name="FT_a_b", subject="s")
    pipe.execute()
    return job


@pytest.fixture
def meanwhile() -> Iterator[ExitStack]:
    """What lasts until the test ends."""
    with ExitStack() as stack:
        yield stack


def client(port: int, secret: str = S3_KEYS["secretKey"]) -> Minio:
    keys = {"s3_access_key": SecretStr(S3_KEYS["accessKey"]), "s3_secret_key": SecretStr(secret)}
    return connect(S3Settings(s3_endpoint=f"127.0.0.1:{port}", **keys))


def run(store: JobStore, job: Job, log: Path, s3: Minio, seconds: float = 60) -> Job:
    """A job that needs S3 once."""

    def body(attempt: Attempt) -> None:
        patiently(attempt, STORING, lambda: ensure_bucket(s3, ARTIFACTS), seconds)

    with_attempt(store, job.id, log, body)
    return store.get(job.id)


def once_it_waits(store: JobStore, job: Job) -> Job:
    waits = Retrying(
        retry=retry_if_result(lambda found: not found.stage.startswith("waiting")),
        stop=stop_after_delay(30),
        wait=wait_fixed(0.02),
    )
    found: Job = waits(store.get, job.id)
    return found


def test_it_waits_until_the_server_is_there(store: JobStore, job: Job, tmp_path: Path, meanwhile: ExitStack) -> None:
    port, seen = free_port(), []

    def bring_it_back() -> None:
        seen.append(once_it_waits(store, job))
        meanwhile.enter_context(s3_server(tmp_path / "s3", port))

    helper = threading.Thread(target=bring_it_back)
    helper.start()
    after = run(store, job, tmp_path / "log", client(port))
    helper.join()
    assert (after.status, after.error) == (JobStatus.FINISHED, None)
    assert client(port).bucket_exists(bucket_name=ARTIFACTS)
    assert (seen[0].status, seen[0].stage) == (JobStatus.RUNNING, f"waiting for S3: {STORING}")


def test_it_does_not_wait_for_ever(store: JobStore, job: Job, tmp_path: Path) -> None:
    after = run(store, job, tmp_path / "log", client(free_port()), seconds=0.1)
    assert after.status is JobStatus.FAILED
    assert after.error is not None and "S3 was away" in after.error and "resume" in after.error


def test_it_can_be_interrupted_while_it_waits(store: JobStore, job: Job, tmp_path: Path) -> None:
    helper = threading.Thread(target=lambda: store.interrupt(once_it_waits(store, job).id))
    helper.start()
    after = run(store, job, tmp_path / "log", client(free_port()))
    helper.join()
    assert (after.status, after.error) == (JobStatus.KILLED, None)


def test_a_server_that_refuses_is_not_waited_for(
    store: JobStore, job: Job, tmp_path: Path, s3_settings: S3Settings
) -> None:
    port = int(s3_settings.s3_endpoint.rpartition(":")[2])
    after = run(store, job, tmp_path / "log", client(port, secret="wrong"))
    assert after.status is JobStatus.FAILED
    assert after.error is not None and "check its keys" in after.error
