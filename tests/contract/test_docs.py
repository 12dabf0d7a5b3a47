"""docs/api.md names every path that there is, and no test that is not there."""

import re
from pathlib import Path
from typing import Any

import pytest
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_gateway.docs import merge
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect as connect_s3

PAGE = Path("docs/api.md")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The merged document. Nothing is connected to for it."""
    redis, s3 = RedisSettings(), S3Settings()
    management = management_app(build_services(ManagementSettings(), HomeSettings(), redis, s3))
    dataset = dataset_app(connect_s3(s3), connect_redis(redis), DatasetSettings())
    return merge([management.openapi(), dataset.openapi()], [])


def test_every_path_is_named(document: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [path for path in document["paths"] if f"`{path.removeprefix('/api')}`" not in page] == []


def test_every_test_that_is_named_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:(test_\w+\.py)(?:::(test_\w+))?|(test_\w+))`", page))
    assert len(named) > 20
    for file, test, alone in named:
        source = (HERE / (file or "test_reference.py")).read_text(encoding="utf-8")
        assert f"def {test or alone}(" in source if test or alone else source, (file, test, alone)
