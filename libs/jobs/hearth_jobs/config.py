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

STUCK_SECONDS = 8.0
"""Work that is to end and was given its processes' grace has so long to notice; then its worker's process ends."""

SILENT_SECONDS = 8.0
"""A worker's process that shows no life for so long is killed, before its lease ends."""
