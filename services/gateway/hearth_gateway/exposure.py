"""Where the gateway can be reached from, and whether it may be."""

import ipaddress

from hearth_access.key_store import KeyStore
from redis import Redis
from redis.exceptions import RedisError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from hearth_gateway.config import GatewaySettings

REDIS_SECONDS = 20.0


class NotToBeOpen(Exception):
    """The gateway must not listen as it is set; the message says why and what to do."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_be_open(settings: GatewaySettings) -> bool:
    """Whether nobody needs a key as long as there is none: only this machine can reach it, or all may."""
    return settings.allow_open or is_loopback(reached_at(settings))


def reached_at(settings: GatewaySettings) -> str:
    """The address at which others reach it."""
    return settings.published_host or settings.gateway_host


def check_exposure(settings: GatewaySettings, redis: Redis, patience: float = REDIS_SECONDS) -> None:
    """Raises NotToBeOpen where a network could use a gateway that has no keys, or files for TLS that cannot be read."""
    for path in (settings.tls_cert, settings.tls_key):
        if path is not None and not path.is_file():
            raise NotToBeOpen(f"there is no file {path}; HEARTH_TLS_CERT and HEARTH_TLS_KEY name PEM files")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise NotToBeOpen("TLS needs both HEARTH_TLS_CERT and HEARTH_TLS_KEY")
    if may_be_open(settings):
        return
    try:
        waiting = Retrying(
            stop=stop_after_delay(patience),
            wait=wait_fixed(0.2),
            retry=retry_if_exception_type(RedisError),
            reraise=True,
        )
        keys = waiting(KeyStore(redis).stored)
    except RedisError as error:
        raise NotToBeOpen(
            f"{reached_at(settings)} can be reached from outside, and whether there are API keys cannot be told, for "
            f"Redis does not answer ({error}); start it first"
        ) from error
    if not keys:
        raise NotToBeOpen(
            f"{reached_at(settings)} can be reached from outside and there are no API keys: make one with "
            "`python -m hearth_local keys create --role admin NAME`, listen on 127.0.0.1, or set "
            "HEARTH_ALLOW_OPEN=true if everybody who can reach it may do everything"
        )
