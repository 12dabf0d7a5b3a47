"""Build the management service: its routes, and the reconciler that runs beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from hearth_jobs.state import take_state
from hearth_storage.objects import ARTIFACTS, DATASETS, ensure_bucket
from hearth_storage.writer import STALE, abort_stale_uploads
from hearth_web.app import build_app
from hearth_web.chores import repeated
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from urllib3.exceptions import HTTPError

from hearth_management.api.routes import routes
from hearth_management.deploy_metrics import DeployMetrics, scrape_targets
from hearth_management.job_metrics import JobMetrics
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services
from hearth_management.training_metrics import TrainingMetrics

SWEEP_SECONDS = 3600.0


def management_app(services: Services) -> FastAPI:
    """The app. The reconciler lives as long as it does."""

    def sweep_artifacts() -> None:
        ensure_bucket(services.s3, ARTIFACTS)
        abort_stale_uploads(services.s3, ARTIFACTS, STALE)
        services.adapters.sweep()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        reconciler = Reconciler(services)
        reconciler.start()
        with repeated(sweep_artifacts, SWEEP_SECONDS):
            yield
        reconciler.stop()

    def check_s3() -> None:
        for bucket in (ARTIFACTS, DATASETS):
            ensure_bucket(services.s3, bucket)

    app = build_app(
        title="Hearth management",
        description="Models, deployments, jobs and fine-tunes.",
        checks={"redis": lambda: take_state(services.redis), "s3": check_s3},  # a newer state is one to leave alone
        unavailable={RedisConnectionError: "Redis", RedisTimeoutError: "Redis", HTTPError: "the S3 server"},
        lifespan=lifespan,
        collectors=(
            JobMetrics(services.jobs),
            DeployMetrics(services),
            TrainingMetrics(services.jobs, services.finetunes),
        ),
    )

    @app.get("/metrics/targets", include_in_schema=False)
    def targets() -> list[dict[str, object]]:
        return scrape_targets(services.nodes.live())

    app.include_router(routes(services))
    return app
