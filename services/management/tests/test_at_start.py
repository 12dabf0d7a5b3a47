"""The operator's file of what to deploy at start: done once, fetched first, and its faults told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hearth_contracts.engine import EngineSettings
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_jobs.config import RedisSettings
from hearth_jobs.deployments import LLM_DEPLOYMENT
from hearth_management import deploy
from hearth_management.at_start import deploy_at_start
from hearth_management.config import ManagementSettings
from hearth_management.services import Services, build_services
from hearth_storage.config import HomeSettings, S3Settings
from minio import Minio
from pydantic import SecretStr

from services.management.tests.conftest import BASE_SHAPES, SMALL

MODEL = "acme/base"
DEFAULT = f'[default]\nmodel_id = "{MODEL}"\nadapter_ids = []\n[default.engine]\nmax_model_len = 128\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deploy.toml"


@pytest.fixture
def services(home: HomeSettings, redis_url: str, s3: Minio, s3_settings: S3Settings, file: Path) -> Services:
    settings = ManagementSettings(embedding_model="", deploy_file=file)
    return build_services(settings, home, RedisSettings(redis_url=SecretStr(redis_url)), s3_settings)


def test_what_the_file_names_is_deployed_once_with_its_settings(
    services: Services, file: Path, put_model: Callable[..., None]
) -> None:
    put_model(MODEL, shapes=BASE_SHAPES, **SMALL)
    file.write_text(DEFAULT)
    for _ in range(2):
        assert deploy_at_start(services) == set()
    (job,) = services.jobs.all()
    record = services.deployments.get(LLM_DEPLOYMENT)
    assert record is not None
    assert record.desired is not None
    assert (record.desired.model_id, record.desired.settings) == (MODEL, EngineSettings(max_model_len=128))

    deploy.interrupt_job(services, job.id)
    assert deploy_at_start(services) == set()
    assert len(services.jobs.all()) == 1, "what a user undeployed came back"
    file.write_text(DEFAULT.replace("128", "64"))
    assert deploy_at_start(services) == set()
    assert len(services.jobs.all()) == 2


def test_a_model_that_is_not_there_is_downloaded_first_and_a_failure_is_told(services: Services, file: Path) -> None:
    file.write_text(DEFAULT)
    for _ in range(2):
        assert deploy_at_start(services) == set()
    (job,) = services.jobs.all()
    assert (job.kind, job.name) == (JobKind.DOWNLOAD, f"DOWNLOAD_{MODEL}")
    services.jobs.finish(job.id, services.jobs.claim(job.id, "worker"), JobStatus.FAILED, "the hub has no such model")
    (words,) = deploy_at_start(services)
    assert f"default waits for {MODEL}" in words
    assert "the hub has no such model" in words
    assert services.jobs.all() == [services.jobs.get(job.id)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[default\n", "cannot be read"),
        ('[default]\nmodel = "a/b"\n', "default.model_id: Field required"),
        ('[default]\nmodel_id = "a/b"\n[default.engine]\nspeed = 1\n', "default.engine.speed"),
        ('[chat]\nmodel_id = "acme/base"\n', "there is no deployment 'chat'"),
        ('[default]\nmodel_id = "acme/base"\nadapter_ids = ["none"]\n', "default is not deployed"),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_place_and_nothing_is_deployed(
    services: Services, file: Path, put_model: Callable[..., None], text: str, words: str
) -> None:
    put_model(MODEL, shapes=BASE_SHAPES, **SMALL)
    file.write_text(text)
    (said,) = deploy_at_start(services)
    assert str(file) in said
    assert words in said
    assert services.jobs.all() == []


def test_a_file_that_is_not_there_is_told(services: Services) -> None:
    (said,) = deploy_at_start(services)
    assert "No such file" in said
