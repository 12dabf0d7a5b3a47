"""What was used with each key, of each model, on each day (UTC)."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, timedelta
from importlib.resources import files
from typing import NamedTuple

from hearth_contracts.access import UsageRow
from redis import Redis

from hearth_access import redis_keys

COUNTS = ("requests", "prompt_tokens", "completion_tokens", "embedding_tokens")
REMEMBERED_SECONDS = 30 * 86400
"""How long it is known that a gateway's last batch came in; it tries again for as long as it runs."""


class UsageOf(NamedTuple):
    """Whose usage a count is."""

    day: str  # YYYY-MM-DD
    key_id: str
    model: str


class UsageStore:
    """Counts in Redis. Raises redis.ConnectionError or redis.TimeoutError when it is away."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._add = redis.register_script((files("hearth_access") / "lua" / "usage.lua").read_text())

    def add(self, gateway_id: str, batch: int, used: Mapping[UsageOf, list[int]]) -> bool:
        """Add a gateway's batch; each has the numbers of COUNTS. Batches are numbered from 1 on.

        Sent again it adds nothing and says False: what is tried until it was answered is counted exactly once.
        """
        names, arguments = [redis_keys.usage_batch(gateway_id)], [str(batch), str(REMEMBERED_SECONDS)]
        for of, numbers in used.items():
            for count, number in zip(COUNTS, numbers, strict=True):
                if number:
                    names.append(redis_keys.usage(of.day))
                    arguments += [f"{of.key_id} {count} {of.model}", str(number)]
        return bool(self._add(keys=names, args=arguments))

    def read(self, first: date, last: date, key_id: str | None = None, model: str | None = None) -> list[UsageRow]:
        """What was used from one day to another, both included; newest day first."""
        days = [(last - timedelta(days=back)).isoformat() for back in range((last - first).days + 1)]
        pipe = self.redis.pipeline(transaction=False)
        for day in days:
            pipe.hgetall(redis_keys.usage(day))
        rows = []
        for day, reply in zip(days, pipe.execute(), strict=True):
            found: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
            for field, value in reply.items():
                of_key, count, of_model = field.decode().split(" ", 2)
                if key_id in (None, of_key) and model in (None, of_model):
                    found[of_key, of_model][count] = int(value)
            rows += [
                UsageRow(day=day, key_id=of_key, model=of_model, **counts)
                for (of_key, of_model), counts in sorted(found.items())
            ]
        return rows
