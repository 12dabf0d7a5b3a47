"""Fixtures that every test may use: real servers, started once a session, emptied for each test."""

from collections.abc import Iterator

import pytest
from hearth_storage.config import S3Settings
from hearth_storage.objects import ARTIFACTS, DATASETS, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from hearth_telemetry import traces
from minio import Minio
from redis import Redis

from tests.support.collector import Collector, collecting
from tests.support.servers import s3_server, valkey
from tests.support.stores_in_containers import redis_container, s3_container


def pytest_addoption(parser: pytest.Parser) -> None:
    """What CI leaves out: it has no Docker Engine, and an hour."""
    parser.addoption(
        "--compose", action="store_true", help="the shared platform of tests/ in containers, with tests/compose"
    )
    parser.addoption("--containers", action="store_true", help="Redis and S3 of the tests in containers")
    parser.addoption("--long", action="store_true", help="also the tests that take minutes each (`long`)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes each, unless it is asked for; pytest's last line says how many those were."""
    left_out = [] if config.getoption("--long") else [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Redis]:
    """A real Valkey or Redis server; use `redis` unless the test needs to keep what is in it."""
    in_container = request.config.getoption("--containers")
    with redis_container() if in_container else valkey(tmp_path_factory.mktemp("valkey")) as client:
        yield client


@pytest.fixture
def redis(redis_server: Redis) -> Redis:
    """A client of an empty server."""
    redis_server.flushall()
    return redis_server


@pytest.fixture
def redis_url(redis: Redis) -> str:
    """Where the empty server is."""
    return f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[S3Settings]:
    """A real S3 server (SeaweedFS)."""
    in_container = request.config.getoption("--containers")
    with s3_container() if in_container else s3_server(tmp_path_factory.mktemp("s3")) as settings:
        yield settings


@pytest.fixture
def s3(s3_settings: S3Settings) -> Minio:
    """A client of it, with Hearth's buckets, empty."""
    client = connect_s3(s3_settings)
    for bucket in (DATASETS, ARTIFACTS):
        ensure_bucket(client, bucket)
        for entry in client.list_objects(bucket_name=bucket, recursive=True):
            client.remove_object(bucket_name=bucket, object_name=str(entry.object_name))
    return client


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """This process is traced, but where its collector should be, nobody listens yet."""
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")  # seconds: how long it tries to send a batch
    traces.configure_tracing("test")
    yield collector
    monkeypatch.undo()
    traces.configure_tracing("test")
    assert not traces.is_tracing()


@pytest.fixture
def collector(away: Collector) -> Iterator[Collector]:
    """This process is traced, and there is a collector."""
    with collecting(away):
        yield away
