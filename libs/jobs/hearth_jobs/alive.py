"""`python -m hearth_jobs.alive NAME`: exit code 0 when the worker NAME of this host is at work. For health checks.

At work: it has registered with RQ and its heartbeat is recent, so it reaches Redis and takes items, or works on one.
With `--redis-or-not` also while Redis is away: then nobody can tell, the work goes on, and whoever starts workers anew
on the strength of this check must leave it alone.
"""

import argparse
import socket
import sys
from datetime import timedelta

from hearth_contracts.base import now
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.worker import WorkerStatus

from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.replies import text

RECENT = timedelta(seconds=90)
"""RQ's workers beat every 15 s while they work; while they wait, as often as their time to live asks."""


def is_alive(redis: Redis, name: str) -> bool:
    """Whether a worker of this name on this host gave a sign of life lately. Raises RedisError."""
    prefix = f"{name}@{socket.gethostname()}-"
    beats = [each.last_heartbeat for each in Worker.all(connection=redis) if each.name.startswith(prefix)]
    return any(beat is not None and now() - beat < RECENT for beat in beats)


def said(redis: Redis, queue: str, word: str) -> list[str | None]:
    """What each worker that takes from `queue` says of itself under this word; None of one that says nothing."""
    keys = Worker.all_keys(queue=Queue(queue, connection=redis))
    found = [redis.hmget(key, "birth", word) for key in keys]
    known = [told for birth, told in found if birth is not None]  # without one it was killed long ago
    return [None if told is None else text(told) for told in known]


def waiting_workers(redis: Redis, queue: str, word: str) -> dict[str, str]:
    """What each worker of `queue` that waits for a job says of itself under this word, by the worker's name.

    One that says nothing, as older versions do, is not among them; one that was killed is, for some minutes more.
    """
    found = {key: redis.hmget(key, "state", word) for key in Worker.all_keys(queue=Queue(queue, connection=redis))}
    return {
        key.removeprefix(Worker.redis_worker_namespace_prefix): text(told)
        for key, (state, told) in found.items()
        if told is not None and state == WorkerStatus.IDLE.value.encode()
    }


def main(argv: list[str] | None = None) -> int:
    """Look; the exit code."""
    parser = argparse.ArgumentParser(prog="alive", description="whether a worker of this host is at work")
    parser.add_argument("name", help="what the worker is called, e.g. training")
    parser.add_argument("--redis-or-not", action="store_true", help="0 also while Redis is away")
    options = parser.parse_args(argv)
    try:
        return 0 if is_alive(connect(RedisSettings()), options.name) else 1
    except RedisError as error:
        print(f"Redis is away, so nobody can tell: {error}", file=sys.stderr)  # noqa: T201
        return 0 if options.redis_or_not else 1


if __name__ == "__main__":
    sys.exit(main())
