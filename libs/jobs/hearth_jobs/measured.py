"""A Redis client that measures its calls, and to which a server that takes no writes is one that is away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import Counter, Histogram
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SECONDS = Histogram("hearth_redis_call_duration_seconds", "Round trips to Redis", ("command",), buckets=BUCKETS)
ERRORS = Counter("hearth_redis_errors_total", "Calls that Redis did not answer", ("error",))
AWAY = (RedisConnectionError, RedisTimeoutError)
WAITING = frozenset({"BLPOP", "BRPOP", "BLMOVE", "XREAD"})
"""They wait for something to happen, so their time says nothing of Redis."""


class RedisTakesNoWrites(RedisConnectionError):
    """Its disk is full, so it refuses all writes until it can append to its log again (its error MISCONF)."""


@contextmanager
def _measured(command: str) -> Iterator[None]:
    """Count what goes wrong, and measure a command that does not wait."""
    began = time.perf_counter()
    try:
        yield
    except AWAY as error:
        ERRORS.labels(type(error).__name__).inc()
        raise
    except ResponseError as error:
        if "MISCONF" not in str(error):
            raise
        ERRORS.labels(RedisTakesNoWrites.__name__).inc()
        raise RedisTakesNoWrites(str(error)) from error
    finally:
        if command not in WAITING:
            SECONDS.labels(command).observe(time.perf_counter() - began)


class MeasuredPipeline(Pipeline):
    """A pipeline; its one round trip counts as the command `pipeline`."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """See Pipeline."""
        with _measured("pipeline"):
            return super().execute(raise_on_error)


class MeasuredRedis(Redis):
    """The client that every process of Hearth uses."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See Redis."""
        with _measured(str(args[0]).upper().partition(" ")[0]):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """See Redis."""
        return MeasuredPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
