"""`/health/live`: the process answers. `/health/ready`: what it needs answers too."""

import logging
from collections.abc import Callable, Mapping

from fastapi import APIRouter
from fastapi.responses import JSONResponse

log = logging.getLogger(__name__)

Check = Callable[[], object]
"""Asks one dependency for a sign of life; raises when there is none."""


def health_routes(checks: Mapping[str, Check]) -> APIRouter:
    """The two health routes; `checks` by the name to show."""
    router = APIRouter(include_in_schema=False)

    @router.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health/ready")
    def ready() -> JSONResponse:
        away = [name for name, check in checks.items() if not answers(name, check)]
        return JSONResponse({"status": "waiting" if away else "ok", "away": away}, 503 if away else 200)

    return router


def answers(name: str, check: Check) -> bool:
    """Whether a dependency gives a sign of life."""
    try:
        check()
    except Exception as error:  # whatever a dependency's client raises, the answer is the same: not ready
        log.info("%s does not answer: %s", name, error)
        return False
    return True
