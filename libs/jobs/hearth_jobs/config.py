"""Where Redis is, and how patient the lease rules are."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class RedisSettings(BaseSettings):
    """Settings of everything that touches Redis."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:8379/0"), description="Redis or Valkey, with its password if it has one"
    )


LEASE_SECONDS = 10.0
"""How long a claim lasts without being renewed."""

RENEW_SECONDS = 2.0
"""How often a holder renews its claim, and so how late it may learn of an interrupt."""

GUARD_HEARTBEAT_SECONDS = 6.0
"""A guarded process whose worker was silent for so long is stopped. With the guard's three seconds of grace that is
sooner than the lease ends, so that a retry never meets the process group of the attempt before it."""

MAX_ATTEMPTS = 3
"""How often work is begun before its worker's deaths count as its own fault."""
