"""`python -m hearth_gateway`: serve until told to stop."""

import sys

from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.state import refuse_newer

from hearth_gateway.config import GatewaySettings
from hearth_gateway.exposure import NotToBeOpen, check_exposure
from hearth_gateway.server import serve


def main() -> int:
    """Read the settings and run; refuse to be open to a network without being told so."""
    settings, redis = GatewaySettings(), connect(RedisSettings())
    refuse_newer(redis)
    try:
        check_exposure(settings, redis)
    except NotToBeOpen as reason:
        print(f"gateway: {reason}", file=sys.stderr)
        return 1
    serve(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
