"""The embedding model that the settings name: brought and deployed once, on real servers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.deploy import Engine
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.models import ImportRequest, StoredModel
from hearth_jobs.config import RedisSettings
from hearth_jobs.deployments import EMBEDDING_DEPLOYMENT
from hearth_jobs.queues import INFERENCE_EMBEDDING, waiting
from hearth_management import deploy, models
from hearth_management.config import ManagementSettings
from hearth_management.fetch import import_folder
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services, build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import record_model
from pydantic import SecretStr

EMBEDDING = ManagementSettings().embedding_model
EMBEDDING_FOLDER = ManagementSettings().embedding_import


@pytest.fixture
def once(services: Services) -> Callable[[], None]:
    return Reconciler(services, patience=0).once


def carry_out_import(services: Services, job: Job) -> None:
    """What the download worker does with an IMPORT job, here and now."""
    attempt = services.jobs.claim(job.id, "worker")
    fetched = import_folder(EMBEDDING, services.home.models, services.home.imports / EMBEDDING_FOLDER)
    stored = StoredModel(model_id=EMBEDDING, created_at=now(), **fetched.model_dump(exclude={"event"}))
    record_model(services.home.models, stored)
    services.jobs.finish(job.id, attempt, JobStatus.FINISHED)


def jobs_of(services: Services, kind: JobKind) -> list[Job]:
    return [job for job in services.jobs.all() if job.kind is kind]


def test_the_embedding_model_is_imported_and_deployed_once_and_not_again_after_undeploy(
    services: Services, once: Callable[[], None], put_folder: Callable[[str], Path]
) -> None:
    put_folder(EMBEDDING_FOLDER)
    once()
    once()
    (brought,) = jobs_of(services, JobKind.IMPORT)
    assert services.deployments.all() == []
    carry_out_import(services, brought)
    once()
    once()
    (served,) = jobs_of(services, JobKind.DEPLOY)
    record = services.deployments.get(EMBEDDING_DEPLOYMENT)
    assert record is not None
    assert record.desired is not None
    assert (record.desired.model_id, record.desired.engine) == (EMBEDDING, Engine.INFINITY)
    assert waiting(services.redis, INFERENCE_EMBEDDING) == {EMBEDDING_DEPLOYMENT}

    deploy.interrupt_job(services, served.id)
    once()
    Reconciler(services).once()  # as after a restart
    assert len(services.jobs.all()) == 2
    record = services.deployments.get(EMBEDDING_DEPLOYMENT)
    assert record is not None
    assert record.desired is None


@pytest.mark.parametrize("end", [JobStatus.FAILED, JobStatus.KILLED])
def test_an_import_of_the_embedding_model_that_failed_or_was_interrupted_is_not_begun_again_by_itself(
    services: Services, once: Callable[[], None], put_folder: Callable[[str], Path], end: JobStatus
) -> None:
    put_folder(EMBEDDING_FOLDER)
    once()
    (brought,) = jobs_of(services, JobKind.IMPORT)
    services.jobs.finish(brought.id, services.jobs.claim(brought.id, "worker"), end, "why")
    once()
    assert services.jobs.all() == [services.jobs.get(brought.id)]
    again = models.add_from_folder(services, ImportRequest(model_id=EMBEDDING, folder=EMBEDDING_FOLDER))
    carry_out_import(services, again)
    once()
    assert len(jobs_of(services, JobKind.DEPLOY)) == 1


def test_an_embedding_model_that_cannot_be_imported_is_said_once_and_stops_nothing_else(
    services: Services, once: Callable[[], None], put_folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    (put_folder(EMBEDDING_FOLDER) / "model.safetensors").unlink()
    once()
    once()
    (said,) = [record.getMessage() for record in caplog.records if "embedding" in record.getMessage()]
    assert "safetensors" in said
    assert services.jobs.all() == []


def test_an_embedding_model_that_a_user_is_downloading_is_not_imported_beside_it(
    services: Services, once: Callable[[], None], put_folder: Callable[[str], Path]
) -> None:
    put_folder(EMBEDDING_FOLDER)
    job = models.add(services, EMBEDDING)
    once()
    assert services.jobs.all() == [job]


def test_without_the_folder_or_the_setting_there_is_nothing_to_import(
    services: Services, once: Callable[[], None], home: HomeSettings, redis_url: str, s3_settings: S3Settings,
    put_folder: Callable[[str], Path],
) -> None:  # fmt: skip
    once()
    put_folder(EMBEDDING_FOLDER)
    none = ManagementSettings(embedding_model="")
    Reconciler(build_services(none, home, RedisSettings(redis_url=SecretStr(redis_url)), s3_settings)).once()
    assert services.jobs.all() == []


def test_an_embedding_model_that_a_user_removed_after_its_deploy_is_not_brought_back(
    services: Services, once: Callable[[], None], put_model: Callable[..., None], put_folder: Callable[[str], Path]
) -> None:
    put_model(EMBEDDING, "BertModel")
    put_folder(EMBEDDING_FOLDER)
    once()
    (served,) = jobs_of(services, JobKind.DEPLOY)
    deploy.interrupt_job(services, served.id)
    models.remove(services, EMBEDDING)
    once()
    assert jobs_of(services, JobKind.IMPORT) == []
