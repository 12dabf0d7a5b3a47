"""Build a service's app with everything the services share, and run it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import uvicorn
from fastapi import FastAPI
from hearth_contracts.errors import Problem
from hearth_telemetry import traces
from hearth_telemetry.logs import configure_logging
from prometheus_client.registry import Collector

from hearth_web.asker import AskerMiddleware
from hearth_web.errors import install_error_handlers
from hearth_web.health import Check, health_routes
from hearth_web.metrics import metrics_routes
from hearth_web.pulse import beating
from hearth_web.request_id import RequestIdMiddleware
from hearth_web.slashes import SlashMiddleware
from hearth_web.traced import TraceMiddleware

log = logging.getLogger(__name__)

GRACE_SECONDS = 5
"""How long requests may go on when the service is to stop; a log that is followed would go on for hours."""

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": Problem,
        "content": {"application/problem+json": {}},
        "description": "what was wrong, and where",
    },
    "5XX": {"model": Problem, "content": {"application/problem+json": {}}, "description": "a part is away"},
}


def build_app(
    *,
    title: str,
    description: str,
    checks: Mapping[str, Check],
    unavailable: Mapping[type[Exception], str],
    lifespan: Callable[[FastAPI], Any] | None = None,
    collectors: Sequence[Collector] = (),
) -> FastAPI:
    """An app without routes of its own but those of health and metrics.

    `collectors` look at what is when Prometheus asks, beside what the process counts as it goes.

    `checks` are what /health/ready asks; `unavailable` maps exceptions of a dependency that is away to the name to
    call it by in the 503. Swagger is the gateway's: services serve only /openapi.json.
    """

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        app.openapi()  # FastAPI builds routes when they are first matched; built here, no request waits or fails for it
        async with lifespan(app) if lifespan is not None else nullcontext(), beating():
            yield
        await asyncio.to_thread(traces.flush)

    app = FastAPI(
        title=title,
        description=description,
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEMS,
        lifespan=alive,
    )
    app.include_router(health_routes(checks))
    app.include_router(metrics_routes(checks, collectors))
    install_error_handlers(app, unavailable)
    app.add_middleware(TraceMiddleware)
    app.add_middleware(SlashMiddleware)
    app.add_middleware(AskerMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def serve(app: Any, *, service: str, host: str, port: int) -> None:
    """Run until told to stop. Logs are JSON lines on standard output."""
    configure_logging(service)
    traces.configure_tracing(service)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
