"""Build the dataset service."""

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from hearth_storage.objects import DATASETS, ensure_bucket
from hearth_web.app import build_app
from minio import Minio
from urllib3.exceptions import HTTPError

from hearth_dataset.api import files, routes
from hearth_dataset.config import DatasetSettings
from hearth_dataset.store import sweep

log = logging.getLogger(__name__)


def dataset_app(s3: Minio, settings: DatasetSettings) -> FastAPI:
    """The app."""

    def tidy() -> None:
        try:
            ensure_bucket(s3, DATASETS)
            sweep(s3)
        except Exception as error:  # S3 may not be up yet; the next start tidies
            log.warning("nothing swept: %s", error)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=tidy, name="sweep", daemon=True).start()
        yield

    app = build_app(
        title="Hearth datasets",
        description="Conversations to learn from.",
        checks={"s3": lambda: ensure_bucket(s3, DATASETS)},
        unavailable={HTTPError: "the S3 server"},
        lifespan=lifespan,
    )
    app.include_router(routes.routes(s3, settings))
    app.include_router(files.routes(s3, settings))
    return app
