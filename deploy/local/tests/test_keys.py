"""`python -m hearth_local keys`: what is made there is what gateways read."""

from collections.abc import Callable

import pytest
from hearth_access.key_store import KeyStore
from hearth_access.secret import matches
from hearth_contracts.access import Role
from hearth_local.__main__ import app
from redis import Redis
from typer.testing import CliRunner, Result

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HEARTH_REDIS_URL", redis_url)
    return lambda *words: CliRunner().invoke(app, ["keys", *words])


def test_the_secret_alone_goes_to_standard_output(run: Run, redis: Redis) -> None:
    made = call(run, "create", "boss", "--role", "admin", "--model", "LLM", "--days", "1", "--tokens-per-minute", "9")
    (stored,) = KeyStore(redis).stored()
    assert matches(made.stdout.strip().encode(), stored.digest)
    assert (stored.key.role, stored.key.models, stored.key.limits.tokens_per_minute) == (Role.ADMIN, ("LLM",), 9)
    assert stored.key.expires_at is not None
    listed = call(run, "list").stdout
    assert stored.key.id in listed and made.stdout.strip() not in listed


def test_a_revoked_key_is_shown_as_such_and_an_unknown_one_is_an_error(run: Run, redis: Redis) -> None:
    call(run, "create", "one")
    (stored,) = KeyStore(redis).stored()
    call(run, "revoke", stored.key.id)
    assert "revoked" in call(run, "list").stdout
    refused = call(run, "revoke", "nothing", fails=True)
    assert "there is no API key 'nothing'" in refused.stderr


def test_forgetting_all_is_asked_for(run: Run, redis: Redis) -> None:
    call(run, "create", "one")
    call(run, "forget-all", fails=True)
    assert len(KeyStore(redis).all()) == 1
    call(run, "forget-all", "--yes")
    assert KeyStore(redis).all() == []


def test_what_makes_no_sense_and_a_redis_that_is_away_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "requests_per_minute" in call(run, "create", "x", "--requests-per-minute", "0", fails=True).stderr
    monkeypatch.setenv("HEARTH_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "make up" in call(run, "list", fails=True).stderr


def call(run: Run, *words: str, fails: bool = False) -> Result:
    result = run(*words)
    assert (result.exit_code != 0) is fails, result.output
    return result
