"""Exceptions to RFC 9457 problem documents, or to OpenAI's error object under the routes that are OpenAI's.

A client learns what was wrong and where, never our internals.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from hearth_contracts.errors import BadRequest, Fault, HearthError, Invalid, Problem, Unavailable
from hearth_contracts.openai import is_openai_control, openai_error
from starlette.exceptions import HTTPException
from starlette.routing import Match

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


def openai_response(
    status: int, message: str, *, code: str | None = None, param: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """OpenAI's error object as a response."""
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return JSONResponse(openai_error(status, message, code=code, param=param), status, headers=headers)


def _error_response(request: Request, error: HearthError) -> JSONResponse:
    """The error in the form that the route's clients expect."""
    if not is_openai_control(request.url.path):
        return problem_response(error.status, error.detail, error.faults, error.retry_after)
    status = 400 if error.status == 422 else error.status  # OpenAI knows no 422
    return openai_response(status, error.detail, code=error.code, param=error.param, retry_after=error.retry_after)


def _invalid(error: RequestValidationError) -> HearthError:
    faults = [Fault(loc=list(e["loc"]), msg=e["msg"], type=e["type"]) for e in error.errors()]
    if any(fault.type == "json_invalid" for fault in faults):
        return BadRequest("the body is not JSON", faults=faults)
    where = "; ".join(f"{'.'.join(str(part) for part in f.loc)}: {f.msg}" for f in faults[:3])
    param = next((str(fault.loc[1]) for fault in faults if len(fault.loc) > 1), None)
    return Invalid(f"the request does not fit: {where}", faults=faults, param=param)


def _methods_at(request: Request) -> set[str]:
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in getattr(route, "methods", None) or ()}


def install_error_handlers(app: FastAPI, unavailable: Mapping[type[Exception], str]) -> None:
    """Make every error of `app` a document; an `unavailable` dependency's becomes a 503 with Retry-After."""

    @app.exception_handler(HearthError)
    async def known(request: Request, error: HearthError) -> JSONResponse:
        return _error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _error_response(request, _invalid(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail
        if error.status_code == 404 and detail == "Not Found":
            detail = f"there is no {request.url.path}; see /api/docs/ for what there is"
        if error.status_code == 405:
            detail = f"{request.method} is not for {request.url.path}"
        as_openai = is_openai_control(request.url.path)
        response = (openai_response if as_openai else problem_response)(error.status_code, detail)
        response.headers.update(error.headers or {})
        if error.status_code == 405:  # the framework names the methods of one of the path's routes alone
            response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return response

    for kind, name in unavailable.items():

        async def away(request: Request, error: Exception, name: str = name) -> JSONResponse:
            log.warning("%s is away: %s", name, error)
            return _error_response(
                request, Unavailable(f"{name} is not reachable; try again", retry_after=RETRY_SECONDS)
            )

        app.add_exception_handler(kind, away)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.error("unforeseen", exc_info=error)
        return _error_response(request, HearthError("something unforeseen went wrong; the service's log says what"))
