"""The download worker, as the process it is: jobs end as they should, whatever happens to their processes."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from hearth_contracts.jobs import Job, JobStatus
from hearth_contracts.models import ImportRequest
from hearth_management import models
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services
from hearth_models.share import shared_model, signed_urls
from hearth_storage.config import S3Settings
from hearth_storage.objects import ARTIFACTS
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.hub import HubServer

MODEL = "acme/tiny"
WEIGHTS = "model.safetensors"
SIZE = 24 * 2**20  # the hub's client writes portions of 10 MiB

StartWorker = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = tmp_path / "hub" / MODEL
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(os.urandom(SIZE))
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def start_worker(services: Services, redis_url: str, hub: HubServer, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker; those still alive at the end are stopped as a supervisor would."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {
        "HEARTH_REDIS_URL": redis_url,
        "HEARTH_HOME": str(services.home.home),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf-home"),
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(**more: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "hearth_management.downloads"]
        with (tmp_path / "worker.log").open("ab") as log:
            started.append(subprocess.Popen(command, env={**clean, **settings, **more}, stdout=log, stderr=log))
        return started[-1]

    yield start
    for worker in started:
        worker.terminate()
        worker.wait(timeout=20)


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    for attempt in Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.05), reraise=True):
        with attempt:
            assert condition()


def ended(services: Services, job: Job) -> Job:
    """The job once it is over."""
    until(lambda: services.jobs.get(job.id).status.is_over)
    return services.jobs.get(job.id)


def family(worker: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The worker's processes below it."""
    return psutil.Process(worker.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_download_finishes_and_the_model_is_listed_with_its_licence(
    services: Services, start_worker: StartWorker, hub: HubServer
) -> None:
    start_worker()
    over = ended(services, models.add(services, MODEL))
    assert (over.status, over.error, over.progress, over.attempt) == (JobStatus.FINISHED, None, 1, 1)
    (entry,) = models.entries(services)
    assert (entry.model_id, entry.license, entry.adapter) == (MODEL, "apache-2.0", False)
    assert entry.size_bytes is not None
    assert entry.size_bytes > SIZE
    assert [found.model_id for found in models.finetunable(services)] == [MODEL]
    assert "%|" not in services.home.job_log(over.id).read_text()  # no progress bars among the words


def test_a_model_that_is_shared_lies_in_s3_as_well_until_it_is_deleted(
    services: Services, start_worker: StartWorker, hub: HubServer, s3_settings: S3Settings
) -> None:
    start_worker(
        HEARTH_SHARE_MODELS="true",
        HEARTH_S3_ENDPOINT=s3_settings.s3_endpoint,
        HEARTH_S3_ACCESS_KEY=s3_settings.s3_access_key.get_secret_value(),
        HEARTH_S3_SECRET_KEY=s3_settings.s3_secret_key.get_secret_value(),
    )
    assert ended(services, models.add(services, MODEL)).status is JobStatus.FINISHED
    model = models.require_model(services, MODEL)
    assert shared_model(services.s3, MODEL, model.revision) == model
    for url, file in zip(signed_urls(services.s3, model), model.files, strict=True):
        assert hashlib.sha256(httpx.get(url).content).hexdigest() == file.sha256
    models.remove(services, MODEL)
    assert list(services.s3.list_objects(bucket_name=ARTIFACTS, recursive=True)) == []


def test_an_import_finishes_and_the_model_is_listed(
    services: Services, start_worker: StartWorker, put_folder: Callable[[str], Path]
) -> None:
    put_folder("mini")
    start_worker()
    over = ended(services, models.add_from_folder(services, ImportRequest(model_id="acme/mini", folder="mini")))
    assert (over.status, over.error) == (JobStatus.FINISHED, None)
    assert [entry.model_id for entry in models.entries(services)] == ["acme/mini"]
    assert models.finetunable(services) == []


def test_what_the_hub_refuses_is_a_failed_job_that_says_why_in_its_log_too(
    services: Services, start_worker: StartWorker
) -> None:
    start_worker()
    over = ended(services, models.add(services, "acme/nothing"))
    assert over.status is JobStatus.FAILED
    assert over.error is not None
    assert "knows no model acme/nothing" in over.error
    assert over.error in services.home.job_log(over.id).read_text()
    assert models.entries(services) == []


def test_an_interrupt_in_mid_download_kills_every_process_before_the_job_is_killed(
    services: Services, start_worker: StartWorker, hub: HubServer
) -> None:
    hub.bytes_per_second = 2 * 2**20
    worker = start_worker()
    job = models.add(services, MODEL)
    until(lambda: hub.sent(WEIGHTS))
    below = family(worker)
    fetchers = [process for process in below if "hearth_management.fetch" in process.cmdline()]
    assert fetchers
    services.jobs.interrupt(job.id)
    over = ended(services, job)
    assert alive(fetchers) == []
    assert (over.status, over.stage) == (JobStatus.KILLED, "interrupted")
    assert models.entries(services) == []
    until(lambda: not alive(below))
    models.remove(services, MODEL)  # what it left takes no room for ever
    assert not list(services.home.models.glob("models--*"))


def test_a_job_whose_worker_was_killed_goes_on_in_mid_file_with_the_next_worker(
    services: Services, start_worker: StartWorker, hub: HubServer
) -> None:
    hub.bytes_per_second = 8 * 2**20
    worker = start_worker()
    job = models.add(services, MODEL)
    until(lambda: services.jobs.get(job.id).progress > 0.4)
    below = family(worker)
    worker.kill()
    worker.wait()
    until(lambda: not alive(below), seconds=9)  # sooner than the lease ends, so no two attempts ever meet
    assert services.jobs.get(job.id).status is JobStatus.RUNNING
    hub.bytes_per_second = None
    hub.requests.clear()
    start_worker()
    reconciler = Reconciler(services)

    def is_over() -> bool:
        reconciler.once()
        return services.jobs.get(job.id).status.is_over

    until(is_over)
    over = services.jobs.get(job.id)
    assert (over.status, over.error, over.attempt) == (JobStatus.FINISHED, None, 2)
    assert 0 < hub.sent(WEIGHTS) < SIZE
    assert [entry.model_id for entry in models.entries(services)] == [MODEL]


def test_a_worker_that_is_stopped_gives_its_job_back_at_once(
    services: Services, start_worker: StartWorker, hub: HubServer
) -> None:
    hub.bytes_per_second = 2 * 2**20
    worker = start_worker()
    job = models.add(services, MODEL)
    until(lambda: hub.sent(WEIGHTS))
    worker.terminate()
    worker.wait(timeout=20)
    (waiting,) = services.jobs.expired()  # nobody holds it
    assert (waiting.job.id, waiting.owner) == (job.id, "")
    hub.bytes_per_second = None
    Reconciler(services).once()
    start_worker()
    assert ended(services, job).status is JobStatus.FINISHED


def test_the_download_process_knows_neither_the_stores_address_nor_its_keys(
    services: Services, start_worker: StartWorker, hub: HubServer
) -> None:
    hub.bytes_per_second = 2 * 2**20
    worker = start_worker()
    job = models.add(services, MODEL)
    until(lambda: hub.sent(WEIGHTS))
    (fetcher,) = (p for p in family(worker) if p.cmdline()[1:3] == ["-m", "hearth_management.fetch"])
    assert "HEARTH_REDIS_URL" not in fetcher.environ()
    services.jobs.interrupt(job.id)
    ended(services, job)


def test_a_job_is_about_what_its_subject_says(services: Services) -> None:
    job = models.add(services, MODEL)
    assert json.loads(services.jobs.subject(job.id)) == {"model_id": MODEL}
