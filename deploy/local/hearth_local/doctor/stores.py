"""Checks of Redis and S3, wherever they are."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from hearth_storage.objects import REFUSALS
from minio import Minio
from minio.error import S3Error
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from hearth_local.findings import Finding, fault, ok, warning

SKEW_SECONDS = 1.0
"""Leases are counted on Redis's clock, times of records on ours."""

SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Mends:
    """What to do about a store that does not answer."""

    refused: str  # it answers, but does not know us
    away: str  # it does not answer at all


def redis_findings(client: Redis, where: str, mends: Mends) -> Iterator[Finding]:
    """Whether it answers with our password, keeps what it is given, and has our time. The client is closed."""
    try:
        with client:
            asked = time.time()
            began = time.monotonic()
            seconds, microseconds = client.time()
            took = time.monotonic() - began
            persistence = client.info("persistence")
            server = client.info("server")
    except AuthenticationError as error:
        yield fault("redis", f"{where} refuses our password: {error}", mends.refused)
        return
    except RedisError as error:
        yield fault("redis", f"does not answer on {where}: {error}", mends.away)
        return
    if took > SLOW_SECONDS:
        yield warning("redis", f"took {took:.1f} s to answer", "is its machine short of memory or its disk busy?")
    if persistence.get("aof_last_write_status", "ok") != "ok":
        yield fault("redis", "cannot write its log to disk", "free some of the disk that its data lies on")
    if not persistence.get("aof_enabled"):
        remedy = "set `appendonly yes`, or jobs of the last seconds are gone when it is restarted"
        yield warning("redis", "keeps no append-only file", remedy)
    yield ok("redis", f"version {server.get('valkey_version') or server['redis_version']} answers on {where}")
    yield clock("Redis", seconds + microseconds / 1e6 - (asked + took / 2), SKEW_SECONDS)


def s3_findings(client: Minio, where: str, mends: Mends) -> Iterator[Finding]:
    """Whether it answers with our keys."""
    try:
        buckets = [bucket.name for bucket in client.list_buckets()]
    except Exception as error:  # the SDK has exceptions of its own, its HTTP library's come through
        refused = isinstance(error, S3Error) and error.code in REFUSALS
        yield fault("s3", f"{where} does not answer us: {str(error)[:200]}", mends.refused if refused else mends.away)
    else:
        yield ok("s3", f"answers on {where}; buckets: {', '.join(sorted(buckets)) or 'none yet'}")


def clock(whose: str, skew: float, allowed: float) -> Finding:
    """How far somebody's clock is from ours, in seconds."""
    if abs(skew) > allowed:
        return fault(
            "clock", f"{whose}'s clock is {skew:+.1f} s off ours", "set both by NTP (timedatectl set-ntp true)"
        )
    return ok("clock", f"{whose}'s is within {max(abs(skew), 0.001):.3f} s of ours")
