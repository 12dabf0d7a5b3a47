"""`python -m hearth_gateway`: serve until told to stop."""

import ipaddress
import sys

import uvicorn
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_telemetry.logs import configure_logging

from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main() -> int:
    """Read the settings and run; refuse to be open to a network without being told so."""
    settings = GatewaySettings()
    if not is_loopback(settings.gateway_host) and not settings.allow_open:
        print(
            f"gateway: {settings.gateway_host} can be reached from outside and there are no API keys yet; listen on "
            "127.0.0.1, or set HEARTH_ALLOW_OPEN=true if the network is trusted",
            file=sys.stderr,
        )
        return 1
    configure_logging("gateway")
    uvicorn.run(
        Gateway(settings, connect(RedisSettings())),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
