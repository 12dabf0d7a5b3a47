"""The support bundle of a platform with real stores: what is in it, and that no secret is."""

import json
import secrets
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hearth_access.key_store import KeyStore
from hearth_contracts.access import KeyRequest
from hearth_contracts.jobs import JobKind
from hearth_jobs.store import JobStore
from hearth_local.bundle import write_bundle
from hearth_local.config import Config, Ports, load_secrets
from hearth_local.platform import Platform
from hearth_local.programs import PROGRAMS, Context
from hearth_local.scrub import REMOVED, Scrubber

HUB_TOKEN = "hf_" + secrets.token_hex(16)
ODD = 'pass"word\\with:odd/letters'


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("HF_TOKEN", HUB_TOKEN)
    monkeypatch.setenv("HEARTH_SOME_PASSWORD", ODD)
    monkeypatch.setenv("HEARTH_LLM_NAME", "My-LLM")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:proxy-password@proxy.example:3128")
    platform = Platform(Config(tmp_path_factory.mktemp("b"), Ports.free()), PROGRAMS[:1])
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        files = {entry.name.removeprefix("hearth-support/"): tar.extractfile(entry) for entry in tar.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file}


def test_it_tells_much_and_no_secret(platform: Platform, tmp_path: Path) -> None:
    keys = load_secrets(platform.config)
    with Context(platform.config, keys).redis() as redis:
        api_key = KeyStore(redis).create(KeyRequest(name="ann")).secret
        with redis.pipeline() as pipe:
            name = f"DOWNLOAD_with {api_key}"
            job = JobStore(redis).create(pipe, kind=JobKind.DOWNLOAD, name=name, subject="{}")
            pipe.execute()
    log = platform.config.log_of("gateway")
    said = f"asked with {api_key}, {keys.redis_password}, {HUB_TOKEN}, {ODD} {json.dumps(ODD)}"
    log.write_text(f"{said}\nAuthorization: Bearer x.y\n")
    target = tmp_path / "bundle.tar.gz"
    names = write_bundle(platform, target)
    found = contents(target)
    assert list(found) == names
    everything = "\n".join(found.values())
    for secret in (*asdict(keys).values(), api_key, HUB_TOKEN, ODD, json.dumps(ODD)[1:-1], "proxy-password", "x.y"):
        assert secret not in everything
    assert target.stat().st_mode & 0o077 == 0
    assert json.loads(found["jobs.json"])["jobs"][0]["id"] == job.id
    assert json.loads(found["settings.json"])["environment"]["HEARTH_LLM_NAME"] == "My-LLM"
    assert json.loads(found["settings.json"])["environment"]["HF_TOKEN"] == REMOVED
    assert {finding["check"] for finding in json.loads(found["doctor.json"])} >= {"redis", "disk"}
    assert "pydantic" in json.loads(found["about.json"])["packages"]
    assert found["logs/gateway.log"].startswith(f"asked with {REMOVED}, {REMOVED}")
    assert "Ready to accept connections" in found["logs/valkey.log"]


def test_what_cannot_be_had_of_a_platform_that_is_down_says_why(platform: Platform, tmp_path: Path) -> None:
    platform.stop()
    write_bundle(platform, tmp_path / "bundle.tar.gz")
    found = contents(tmp_path / "bundle.tar.gz")
    assert "Connection" in json.loads(found["jobs.json"])["not to be had"]
    assert json.loads(found["programs.json"]) == []
    assert json.loads(found["doctor.json"])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://:secret-password@host:6379/0", f"redis://{REMOVED}@host:6379/0"),
        ("http://127.0.0.1:8080/path?x=a@b", "http://127.0.0.1:8080/path?x=a@b"),
        ("PUT /x?X-Amz-Signature=abc123&y=1", f"PUT /x?X-Amz-Signature={REMOVED}&y=1"),
        ("authorization: bearer abc", f"authorization: bearer {REMOVED}"),
        ("known-one, known-one-longer", f"{REMOVED}, {REMOVED}"),
        ("step 12 of 80, loss 0.4", "step 12 of 80, loss 0.4"),
    ],
)
def test_what_looks_like_a_secret_is_removed_and_nothing_else(text: str, clean: str) -> None:
    assert Scrubber(["known-one", "known-one-longer"]).text(text) == clean
