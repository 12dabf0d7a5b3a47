"""`python -m hearth_jobs.alive NAME`: exit code 0 when the worker NAME of this host is at work. For health checks.

At work: it has registered with RQ and its heartbeat is recent, so it reaches Redis and takes items, or works on one.
"""

import socket
import sys
from datetime import timedelta

from hearth_contracts.base import now
from redis import Redis
from rq import Worker

from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect

RECENT = timedelta(seconds=90)
"""RQ's workers beat every 15 s while they work; while they wait, as often as their time to live asks."""


def is_alive(redis: Redis, name: str) -> bool:
    """Whether a worker of this name on this host gave a sign of life lately. Raises RedisError."""
    prefix = f"{name}@{socket.gethostname()}-"
    beats = [each.last_heartbeat for each in Worker.all(connection=redis) if each.name.startswith(prefix)]
    return any(beat is not None and now() - beat < RECENT for beat in beats)


if __name__ == "__main__":
    sys.exit(0 if is_alive(connect(RedisSettings()), sys.argv[1]) else 1)
