"""The audit log."""

import pytest
from hearth_access import audit_store
from hearth_access.audit_store import AuditStore
from hearth_contracts.access import AuditEntry
from hearth_contracts.base import now
from redis import Redis


def entry(number: int, key_id: str = "k") -> AuditEntry:
    return AuditEntry(
        at=now(), key_id=key_id, key_name="n", method="POST", path=f"/{number}", status=200, request_id="r", address="a"
    )


def test_the_newest_come_first_and_of_one_key_if_asked(redis: Redis) -> None:
    log = AuditStore(redis)
    entries = [entry(number, "even" if number % 2 == 0 else "odd") for number in range(2500)]
    log.append(entries)
    assert log.newest(3) == entries[:-4:-1]
    assert [each.path for each in log.newest(2, "odd")] == ["/2499", "/2497"]
    assert len(log.newest(10_000)) == 2500
    assert len(log.newest(10_000, "odd")) == 1250


def test_it_keeps_the_newest_only(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_store, "MOST_ENTRIES", 200)
    log = AuditStore(redis)
    log.append([entry(number) for number in range(1000)])
    kept = log.newest(1000)
    assert 200 <= len(kept) < 400  # Redis cuts whole blocks
    assert kept[0].path == "/999"
