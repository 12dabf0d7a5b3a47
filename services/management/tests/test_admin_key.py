"""The first key of an installation in containers."""

import pytest
from hearth_access.key_store import KeyStore
from hearth_access.secret import digest
from hearth_contracts.access import Role
from hearth_management.admin_key import main
from redis import Redis

from tests.support.servers import free_port


def test_what_it_prints_opens_everything(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", redis_url)
    main(["boss"])
    secret = capsys.readouterr().out.strip()
    (stored,) = KeyStore(redis).stored()
    assert (stored.key.name, stored.key.role, stored.digest) == ("boss", Role.ADMIN, digest(secret.encode()))


@pytest.mark.parametrize(
    ("words", "reason"), [([], "usage"), (["a", "b"], "usage"), ([""], "NAME: String should match")]
)
def test_a_bad_command_line_makes_no_key_and_says_why(
    words: list[str], reason: str, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", redis_url)
    with pytest.raises(SystemExit, match=reason):
        main(words)
    assert KeyStore(redis).all() == []


def test_it_says_when_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(SystemExit, match="Redis does not answer"):
        main(["boss"])
