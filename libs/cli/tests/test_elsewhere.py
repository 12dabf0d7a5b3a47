"""The doctor for a platform that is not this machine's, on real services and stores."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hearth_cli.elsewhere import examine_elsewhere
from hearth_client import Hearth
from hearth_local.findings import Finding, Verdict
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect
from minio import Minio
from redis import Redis
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.control_plane import control_plane
from tests.support.servers import free_port


@pytest.fixture
def url(redis: Redis, redis_url: str, s3: Minio, s3_settings: S3Settings, tmp_path: Path) -> Iterator[str]:
    """A platform without workers."""
    with control_plane(HomeSettings(home=tmp_path), redis, redis_url, s3, s3_settings) as url:
        yield url


def by_check(url: str, key: str = "") -> dict[str, Finding]:
    with Hearth(url, key, patience=0) as client:
        return {finding.check: finding for finding in examine_elsewhere(client)}


def faults(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict is Verdict.FAULT}


def test_a_platform_that_is_well_has_no_fault_and_everything_is_looked_at(
    url: str, redis_url: str, s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", redis_url)
    monkeypatch.setenv("HEARTH_S3_ENDPOINT", s3_settings.s3_endpoint)
    monkeypatch.setenv("HEARTH_S3_ACCESS_KEY", s3_settings.s3_access_key.get_secret_value())
    monkeypatch.setenv("HEARTH_S3_SECRET_KEY", s3_settings.s3_secret_key.get_secret_value())
    found = by_check(url)
    assert faults(found) == set()
    looked_at = {"platform", "clock", "key", "models", "datasets", "disk", "memory", "gpu", "queue training"}
    assert looked_at | {"deployment default", "redis", "s3"} <= found.keys()
    assert found["queue training"].verdict is Verdict.WARNING  # nobody takes from it, and nothing waits


def test_what_waits_for_a_worker_that_is_not_there_is_a_fault(url: str, tmp_path: Path) -> None:
    folder = HomeSettings(home=tmp_path).imports / "a"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    httpx.post(f"{url}/api/v1/models/import/", json={"model_id": "a/b", "folder": "a"}).raise_for_status()
    found = by_check(url)
    assert faults(found) == {"queue downloads"}
    assert "1 waiting, and nobody takes from it" in found["queue downloads"].found


def test_an_s3_that_the_platform_does_not_reach_is_a_fault_of_what_lies_in_it(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    away = S3Settings(s3_endpoint=f"127.0.0.1:{free_port()}")
    with control_plane(HomeSettings(home=tmp_path), redis, redis_url, connect(away), away) as url:
        found = by_check(url)
    assert faults(found) == {"models", "datasets"}


@pytest.mark.parametrize("key", ["", "hearth_not_a_key"])
def test_a_key_that_may_not_look_is_told_which_may(url: str, key: str) -> None:
    secret = httpx.post(f"{url}/api/v1/keys/", json={"name": "admin", "role": "admin"}).json()["secret"]
    for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.05), reraise=True):
        with attempt:  # the gateway learns of keys within a second
            found = by_check(url, key)
            assert faults(found) == {"key"}
    assert "role admin" in found["key"].remedy
    assert faults(by_check(url, secret)) == set()


def test_nobody_at_the_address_is_the_first_thing_told() -> None:
    found = by_check(f"http://127.0.0.1:{free_port()}")
    assert faults(found) == {"platform"}
    assert "HEARTH_URL" in found["platform"].remedy


def test_a_server_that_is_not_hearth_is_known(s3_settings: S3Settings) -> None:
    found = by_check(f"http://{s3_settings.s3_endpoint}")
    assert faults(found) == {"platform"}
    assert "not Hearth's" in found["platform"].found


def test_one_that_takes_the_connection_and_says_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearth_cli.elsewhere.SECONDS", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        found = by_check(f"http://127.0.0.1:{mute.getsockname()[1]}")
    assert "hangs" in found["platform"].remedy


def test_stores_that_refuse_or_are_away_are_told_with_the_setting(
    url: str, s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("HEARTH_S3_ENDPOINT", s3_settings.s3_endpoint)
    monkeypatch.setenv("HEARTH_S3_ACCESS_KEY", "somebody")
    monkeypatch.setenv("HEARTH_S3_SECRET_KEY", "else")
    found = by_check(url)
    assert faults(found) == {"redis", "s3"}
    assert "HEARTH_REDIS_URL" in found["redis"].remedy
    assert "HEARTH_S3_ACCESS_KEY" in found["s3"].remedy
