"""One way to connect to Redis: raw bytes (RQ needs them), short time-outs, a few quick retries."""

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from hearth_jobs.config import RedisSettings
from hearth_jobs.measured import MeasuredRedis


def connect(settings: RedisSettings) -> Redis:
    """A lazy client: it connects at first use, so a process may start before Redis does."""
    return MeasuredRedis.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=2,
        socket_timeout=3,  # a server that hangs is a server that is away
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=2),
    )
