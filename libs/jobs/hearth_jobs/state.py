"""Which form the state in Redis and S3 has, so that an older Hearth never writes into a newer one's."""

import logging
import sys

from redis import Redis
from redis.exceptions import RedisError

from hearth_jobs import keys
from hearth_jobs.replies import text

log = logging.getLogger(__name__)

STATE_VERSION = 2
"""One more whenever an older Hearth could not work with what this one writes: 2 since what exists is a log in S3."""

_RAISE = """
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
"""


class StateTooNew(Exception):
    """The state was written by a newer Hearth; the message says what to do."""


def check_state(redis: Redis) -> int:
    """Mark a new platform's state with our version; gives the version it has. Raises StateTooNew, redis.RedisError."""
    redis.set(keys.STATE_VERSION, STATE_VERSION, nx=True)
    found = int(text(redis.get(keys.STATE_VERSION) or b"0"))
    if found > STATE_VERSION:
        raise StateTooNew(
            f"the data has state version {found}, and this Hearth knows {STATE_VERSION}: install the version that wrote"
            " it (or a later one), or restore a backup made before the upgrade"
        )
    return found


def take_state(redis: Redis) -> None:
    """What `check_state` does, and from now on no older Hearth starts. Raises StateTooNew, redis.RedisError."""
    if check_state(redis) < STATE_VERSION:
        redis.eval(_RAISE, 1, keys.STATE_VERSION, STATE_VERSION)
        log.info("the state has version %d now", STATE_VERSION)


def refuse_newer(redis: Redis) -> None:
    """What each service does first: end, saying why, where the state is newer than it knows.

    While Redis is away this cannot be told, and the service starts, so that it is there when Redis comes back.
    """
    try:
        take_state(redis)
    except StateTooNew as reason:
        sys.exit(f"not started: {reason}")
    except RedisError as error:
        log.warning("started without a look at the version of the state, for Redis is away: %s", error)
