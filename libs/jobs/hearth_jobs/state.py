"""Which form the state in Redis and S3 has, so that an older Hearth never writes into a newer one's."""

from redis import Redis

from hearth_jobs import keys
from hearth_jobs.replies import text

STATE_VERSION = 1
"""One more whenever an older Hearth could not work with what this one writes."""


class StateTooNew(Exception):
    """The state was written by a newer Hearth; the message says what to do."""


def check_state(redis: Redis) -> None:
    """Mark a new platform's state with our version. Raises StateTooNew, redis.RedisError."""
    redis.set(keys.STATE_VERSION, STATE_VERSION, nx=True)
    found = int(text(redis.get(keys.STATE_VERSION) or b"0"))
    if found > STATE_VERSION:
        raise StateTooNew(
            f"the data has state version {found}, and this Hearth knows {STATE_VERSION}: install the version that wrote"
            " it (or a later one), or restore a backup made before the upgrade"
        )
