"""A place to work in, for the tests that start workers."""

import pytest
from hearth_storage.config import HomeSettings, S3Settings
from minio import Minio
from redis import Redis

from services.training.tests.place import Place, add_base


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> HomeSettings:
    """A home folder with the tiny model in its store."""
    home = HomeSettings(home=tmp_path_factory.mktemp("home"))
    add_base(home)
    return home


@pytest.fixture
def place(redis: Redis, redis_url: str, s3: Minio, s3_settings: S3Settings, home: HomeSettings) -> Place:
    return Place(redis, redis_url, s3, s3_settings, home)
