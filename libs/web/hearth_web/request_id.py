"""Each request has an id, in its answer and in the logs: the caller's `x-request-id` if well-formed, else a new one."""

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def accept_request_id(given: str | None) -> str:
    """The caller's id if it is harmless in a log line and a header, else a new one."""
    return given if given and _WELL_FORMED.fullmatch(given) else uuid4().hex


class RequestIdMiddleware:
    """Set the id for the logs of this request, and answer with it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        current = accept_request_id(Headers(scope=scope).get(HEADER))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = current
            await send(message)

        with bound_contextvars(request_id=current):
            await self.app(scope, receive, send_with_id)
