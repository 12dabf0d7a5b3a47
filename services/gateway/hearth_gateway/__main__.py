"""`python -m hearth_gateway`: serve until told to stop."""

import ipaddress
import sys

from hearth_gateway.config import GatewaySettings
from hearth_gateway.server import serve


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
    serve(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
