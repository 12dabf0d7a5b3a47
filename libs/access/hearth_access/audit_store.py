"""The audit log: a Redis stream that is only added to, and keeps the newest hundred thousand entries."""

from collections.abc import Iterable
from typing import Any

from hearth_contracts.access import AuditEntry
from redis import Redis

from hearth_access import redis_keys

MOST_ENTRIES = 100_000


class AuditStore:
    """Entries in Redis. Raises redis.ConnectionError or redis.TimeoutError when it is away."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def append(self, entries: Iterable[AuditEntry]) -> None:
        """Add these, in order, all or none."""
        pipe = self.redis.pipeline(transaction=True)
        for entry in entries:
            pipe.xadd(redis_keys.AUDIT, {"entry": entry.model_dump_json()}, maxlen=MOST_ENTRIES, approximate=True)
        pipe.execute()

    def newest(self, count: int, key_id: str | None = None) -> list[AuditEntry]:
        """The newest entries, newest first; of one key, if asked."""
        found: list[AuditEntry] = []
        before = "+"
        while len(found) < count:
            page: Any = self.redis.xrevrange(redis_keys.AUDIT, max=before, min="-", count=1000)
            if not page:
                break
            entries = (AuditEntry.model_validate_json(fields[b"entry"]) for _, fields in page)
            found += [entry for entry in entries if key_id in (None, entry.key_id)]
            before = f"({page[-1][0].decode()}"
        return found[:count]
