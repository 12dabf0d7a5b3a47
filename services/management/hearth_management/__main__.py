"""`python -m hearth_management`: serve until told to stop."""

from hearth_jobs.config import RedisSettings
from hearth_jobs.state import refuse_newer
from hearth_storage.config import HomeSettings, S3Settings
from hearth_web.app import serve

from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import build_services


def main() -> None:
    """Read the settings and run."""
    settings = ManagementSettings()
    services = build_services(settings, HomeSettings(), RedisSettings(), S3Settings())
    refuse_newer(services.redis)
    serve(management_app(services), service="management", host=settings.management_host, port=settings.management_port)


if __name__ == "__main__":
    main()
