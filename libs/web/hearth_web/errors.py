"""Exceptions to RFC 9457 problem documents. A client learns what was wrong and where, never our internals."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from hearth_contracts.errors import Fault, HearthError, Problem
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

RETRY_SECONDS = 2


def problem_response(
    status: int, detail: str, faults: list[Fault] | None = None, retry_after: int | None = None
) -> JSONResponse:
    """A problem document as a response."""
    title = HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail, errors=faults)
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return JSONResponse(
        body.model_dump(exclude_none=True), status, headers=headers, media_type="application/problem+json"
    )


def install_error_handlers(app: FastAPI, unavailable: Mapping[type[Exception], str]) -> None:
    """Make every error of `app` a problem document; `unavailable` ones become a 503 with Retry-After."""

    @app.exception_handler(HearthError)
    async def known(_request: Request, error: HearthError) -> JSONResponse:
        return problem_response(error.status, error.detail, error.faults, error.retry_after)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [Fault(loc=list(e["loc"]), msg=e["msg"], type=e["type"]) for e in error.errors()]
        if any(fault.type == "json_invalid" for fault in faults):
            return problem_response(400, "the body is not JSON", faults)
        where = "; ".join(f"{'.'.join(str(part) for part in f.loc)}: {f.msg}" for f in faults[:3])
        return problem_response(422, f"the request does not fit: {where}", faults)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail
        if error.status_code == 404 and detail == "Not Found":
            detail = f"there is no {request.url.path}; see /api/docs/ for what there is"
        if error.status_code == 405:
            detail = f"{request.method} is not for {request.url.path}"
        response = problem_response(error.status_code, detail)
        response.headers.update(error.headers or {})
        return response

    for kind, name in unavailable.items():

        async def away(_request: Request, error: Exception, name: str = name) -> JSONResponse:
            log.warning("%s is away: %s", name, error)
            return problem_response(503, f"{name} is not reachable; try again", retry_after=RETRY_SECONDS)

        app.add_exception_handler(kind, away)

    @app.exception_handler(Exception)
    async def unforeseen(_request: Request, error: Exception) -> JSONResponse:
        log.error("unforeseen", exc_info=error)
        return problem_response(500, "something unforeseen went wrong; the service's log says what")
