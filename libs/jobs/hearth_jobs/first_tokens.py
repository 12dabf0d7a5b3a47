"""How long the first tokens of streams take, counted by all gateways together and kept for a moment.

Histograms, since those of several gateways can be added. A gateway brings what it counted once a second.
"""

from bisect import bisect_left
from itertools import accumulate

from hearth_telemetry.metrics import LATENCY_BUCKETS
from redis import Redis

from hearth_jobs import keys
from hearth_jobs.replies import fields_of

SLOT_SECONDS = 10
FEWEST = 20
"""Of fewer streams no percentile is told: one in twenty is what it is about."""


class Counts:
    """A histogram of seconds."""

    def __init__(self) -> None:
        self.by_bucket = [0] * (len(LATENCY_BUCKETS) + 1)  # the last: longer than any

    def add(self, seconds: float) -> None:
        """Count one."""
        self.by_bucket[bisect_left(LATENCY_BUCKETS, seconds)] += 1

    def percentile(self, share: float) -> float | None:
        """What so large a share took at most, told as Prometheus does; None where too few are counted."""
        total = sum(self.by_bucket)
        if total < FEWEST:
            return None
        rank, below = share * total, [0, *accumulate(self.by_bucket)]
        bucket = next(index for index, count in enumerate(below[1:]) if count >= rank)
        if bucket == len(LATENCY_BUCKETS):
            return LATENCY_BUCKETS[-1]
        low = LATENCY_BUCKETS[bucket - 1] if bucket else 0.0
        return low + (LATENCY_BUCKETS[bucket] - low) * (rank - below[bucket]) / self.by_bucket[bucket]


def bring(redis: Redis, counted: dict[str, Counts], now: float) -> None:
    """Add what was counted, by deployment, at the time `now` of Redis's clock."""
    pipe = redis.pipeline(transaction=False)
    for deployment, counts in counted.items():
        key = keys.first_tokens(deployment, int(now) // SLOT_SECONDS)
        for bucket, count in enumerate(counts.by_bucket):
            if count:
                pipe.hincrby(key, str(bucket), count)
        pipe.expire(key, 3 * SLOT_SECONDS)
    pipe.execute()


def lately(redis: Redis, deployment: str, now: float) -> Counts:
    """What was counted in the last 10 to 20 seconds."""
    slot, found = int(now) // SLOT_SECONDS, Counts()
    for each in (slot - 1, slot):
        for bucket, count in fields_of(redis.hgetall(keys.first_tokens(deployment, each))).items():
            found.by_bucket[int(bucket)] += int(count)
    return found
