"""Each HTTP request is a span, where tracing is on: it continues the caller's trace, or begins one."""

from collections.abc import Callable

from hearth_telemetry import traces
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import get_contextvars

_FOR_MACHINES = ("/health/", "/metrics")
"""Asked every few seconds, by nobody who would look."""

REQUEST_ID = "hearth.request_id"
KEY_ID = "hearth.key_id"


def route_of(scope: Scope) -> str:
    """The path with names in place of the ids that are in it; '' where there is no such route."""
    if "route" not in scope:
        return ""
    path = str(scope["path"])
    for name, value in scope["path_params"].items():
        before, _, after = path.rpartition(f"/{value}")
        path = f"{before}/{{{name}}}{after}"
    return path


class TraceMiddleware:
    """Make the span. `route` gives the path's form once the request is answered, which the span is called by.

    The query is not told: what it holds is the user's.
    """

    def __init__(self, app: ASGIApp, route: Callable[[Scope], str] = route_of) -> None:
        self.app = app
        self.route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not traces.is_tracing() or scope["type"] != "http" or scope["path"].startswith(_FOR_MACHINES):
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"], "url.path": scope["path"]}
        known = get_contextvars()
        attributes |= {f"hearth.{name}": known[name] for name in ("request_id", "key_id") if name in known}
        with traces.span(method, "server", parent_of(scope), attributes) as span:
            assert span is not None

            async def send_and_tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        traces.failed(span, str(message["status"]))
                await send(message)

            try:
                await self.app(scope, receive, send_and_tell)
            finally:
                if route := self.route(scope):
                    span.set_attribute("http.route", route)
                    span.update_name(f"{method} {route}")


def parent_of(scope: Scope) -> dict[str, str]:
    """What the caller said of its own span."""
    headers = Headers(scope=scope)
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
