"""What Redis was asked, as it counts itself, and how long something took."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from redis import Redis


class Cost(NamedTuple):
    """What one of something takes."""

    ms: float  # the median
    commands: float  # that Redis carried out, those inside scripts and transactions too; the mean
    trips: float  # round trips to it; the mean


class Counts(NamedTuple):
    """What a server has done since it began."""

    commands: int
    trips: int


def counts(redis: Redis) -> Counts:
    """As the server counts, the asking left out: it is one command and one round trip each time."""
    info: Any = redis.info("everything")
    calls = [found["calls"] for name, found in info.items() if name.startswith("cmdstat_") and name != "cmdstat_info"]
    return Counts(sum(calls), int(info["total_reads_processed"]))


def cost(redis: Redis, work: Callable[[], object], times: int) -> Cost:
    """Do it so many times."""
    before, seconds = counts(redis), []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    after = counts(redis)
    return Cost(
        median(seconds) * 1000,
        (after.commands - before.commands) / times,
        (after.trips - before.trips - 1) / times,
    )
