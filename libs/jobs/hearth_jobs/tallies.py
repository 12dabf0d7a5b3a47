"""Counters that outlive the process that counts: one hash in Redis, which grows by single steps.

Work-horses come and go and are asked for nothing over HTTP. What they count they add here, and management shows it.
"""

import contextlib
from collections.abc import Mapping
from enum import StrEnum

from redis import Redis
from redis.exceptions import RedisError

from hearth_jobs import keys
from hearth_jobs.replies import fields_of


class Tally(StrEnum):
    """What is counted, for each deployment."""

    RESTARTS = "restarts"  # engines started again after they died
    SWAPS = "swaps"  # changes of adapters in a running engine
    LOADS = "loads"  # engines that came to answer
    LOAD_SECONDS = "load_seconds"  # the time that took, summed
    REMOVALS = "removals"  # models that nodes had fetched and removed, for its model to have room


_KNOWN = frozenset(Tally)


def add(redis: Redis, deployment: str, steps: Mapping[Tally, float]) -> None:
    """Count. While Redis is away nothing is: no work fails for it."""
    with contextlib.suppress(RedisError):
        pipe = redis.pipeline(transaction=True)
        for tally, amount in steps.items():
            pipe.hincrbyfloat(keys.TALLIES, f"{tally}:{deployment}", amount)
        pipe.execute()


def read(redis: Redis) -> dict[tuple[Tally, str], float]:
    """All that was counted, by what and by deployment. Raises RedisError."""
    counted = fields_of(redis.hgetall(keys.TALLIES))
    found = {}
    for field, amount in counted.items():
        tally, _, deployment = field.partition(":")
        if tally in _KNOWN:  # a newer Hearth may count more
            found[Tally(tally), deployment] = float(amount)
    return found
