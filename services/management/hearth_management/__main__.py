"""`python -m hearth_management`: serve until told to stop."""

import logging
import sys

from hearth_jobs.config import RedisSettings
from hearth_jobs.state import StateTooNew, check_state
from hearth_storage.config import HomeSettings, S3Settings
from hearth_web.app import serve
from redis.exceptions import RedisError

from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import build_services


def main() -> None:
    """Read the settings and run."""
    settings = ManagementSettings()
    services = build_services(settings, HomeSettings(), RedisSettings(), S3Settings())
    try:
        check_state(services.redis)
    except StateTooNew as reason:
        sys.exit(f"not started: {reason}")
    except RedisError as error:
        logging.getLogger(__name__).warning("Redis is away, so the state is checked once it is back: %s", error)
    serve(management_app(services), service="management", host=settings.management_host, port=settings.management_port)


if __name__ == "__main__":
    main()
