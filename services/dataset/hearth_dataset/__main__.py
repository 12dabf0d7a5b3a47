"""`python -m hearth_dataset`: serve until told to stop."""

from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_jobs.state import refuse_newer
from hearth_storage.config import S3Settings
from hearth_storage.objects import connect, public_signer
from hearth_web.app import serve

from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings


def main() -> None:
    """Read the settings and run."""
    settings = DatasetSettings()
    s3, redis = S3Settings(), connect_redis(RedisSettings())
    refuse_newer(redis)
    app = dataset_app(connect(s3), redis, settings, public_signer(s3))
    serve(app, service="dataset", host=settings.dataset_host, port=settings.dataset_port)


if __name__ == "__main__":
    main()
