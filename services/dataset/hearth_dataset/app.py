"""Build the dataset service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from hearth_storage.objects import DATASETS, ensure_bucket
from hearth_web.app import build_app
from hearth_web.chores import repeated
from minio import Minio
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from urllib3.exceptions import HTTPError

from hearth_dataset.api import files, routes, uploads
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.sweep import sweep
from hearth_dataset.uploads import Uploads

SWEEP_SECONDS = 3600.0


def dataset_app(s3: Minio, redis: Redis, settings: DatasetSettings, public_s3: Minio | None = None) -> FastAPI:
    """The app. `public_s3` signs URLs for the address at which clients reach S3, where they do."""
    catalogue = Catalogue(s3)

    def sweep_datasets() -> None:
        ensure_bucket(s3, DATASETS)
        sweep(catalogue)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with repeated(sweep_datasets, SWEEP_SECONDS):
            yield

    app = build_app(
        title="Hearth datasets",
        description="Rows to learn from.",
        checks={"s3": lambda: ensure_bucket(s3, DATASETS)},
        unavailable={HTTPError: "the S3 server", RedisConnectionError: "Redis", RedisTimeoutError: "Redis"},
        lifespan=lifespan,
    )
    app.include_router(uploads.routes(Uploads(catalogue, settings, public_s3)))  # before what /{dataset_id} takes
    app.include_router(routes.routes(catalogue, redis, settings))
    app.include_router(files.routes(catalogue, redis, settings))
    return app
