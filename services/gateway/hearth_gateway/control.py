"""The control plane's door: each path to the service that owns it, streamed in both directions."""

import logging
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import httpx
from hearth_contracts.access import Role
from hearth_contracts.openai import is_openai_control
from hearth_telemetry import traces
from hearth_web.errors import RETRY_SECONDS, openai_response, problem_response
from hearth_web.request_id import HEADER, accept_request_id
from hearth_web.traced import KEY_ID, REQUEST_ID
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from hearth_gateway.audit import AuditTrail
from hearth_gateway.config import GatewaySettings
from hearth_gateway.door import Caller, Door
from hearth_gateway.pages import Pages
from hearth_gateway.policy import READS, may
from hearth_gateway.replies import Refused

log = logging.getLogger(__name__)

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Headers about one connection (RFC 9110, 7.6.1)."""

NOT_SENT_ON = HOP_BY_HOP | {b"host", HEADER.encode(), b"authorization", b"forwarded"}
NOT_SENT_ON_PREFIXES = (b"x-hearth-", b"x-forwarded-")  # what only the gateway may say, and what nobody checked
TRACE_HEADERS = {b"traceparent", b"tracestate"}  # where we trace, we say our own
ASKED = frozenset({"authorization", "origin", "host"})
NOT_SENT_BACK = HOP_BY_HOP | {b"date"}  # the gateway's server writes its own

LONGEST_STEP_SECONDS = 600.0
KEPT_SECONDS = 2.0
"""An idle connection to a service is kept so long; uvicorn ends its side after 5, and a request must not meet that."""


class ControlPlane:
    """Passes control requests on."""

    def __init__(self, settings: GatewaySettings, door: Door, pages: Pages) -> None:
        self.door = door
        self.pages = pages
        self.trail = AuditTrail()
        management = settings.management_url
        self.owners = {
            **dict.fromkeys(("datasets", "files"), settings.dataset_url),
            **dict.fromkeys(("models", "deploy", "deployments", "jobs", "finetune", "fine_tuning"), management),
            **dict.fromkeys(("keys", "usage", "audit", "system", "hub"), management),
        }
        timeout = httpx.Timeout(LONGEST_STEP_SECONDS, connect=settings.connect_timeout, pool=10)
        limits = httpx.Limits(max_connections=200, keepalive_expiry=KEPT_SECONDS)
        self.http = httpx.AsyncClient(timeout=timeout, trust_env=False, limits=limits)
        self.http.headers.clear()  # a client's headers are passed on, and none besides

    async def close(self) -> None:
        """Close every connection."""
        await self.http.aclose()

    def admit(self, headers: Headers) -> Caller:
        """Who asks. Raises Refused."""
        given = {name: value.encode("latin-1") for name, value in headers.items() if name in ASKED}
        if self.door.open:
            self.pages.check(given.get("origin"), given.get("host"))
        return self.door.admit(given.get("authorization"))

    def refusal(self, headers: Headers) -> Response | None:
        """The answer to somebody who is no admin."""
        try:
            caller = self.admit(headers)
        except Refused as refused:
            return _refusal(refused, problem_response)
        return None if caller.role is Role.ADMIN else problem_response(403, "this needs an API key with the role admin")

    async def forward(self, rest: str, request: Request) -> Response:
        """Answer a request for `/api/v1/<rest>` with what the owner of its first segment says, if the caller may."""
        request_id = accept_request_id(request.headers.get(HEADER))
        traces.annotate({REQUEST_ID: request_id})
        respond = openai_response if is_openai_control(f"/v1/{rest}") else problem_response
        response: Response
        try:
            caller = self.admit(request.headers)
        except Refused as refused:
            response = _refusal(refused, respond)
            response.headers[HEADER] = request_id
            return response
        traces.annotate({KEY_ID: caller.key_id})
        if may(caller.role, request.method, rest):
            response = await self._pass_on(rest, request, request_id, caller)
        else:
            response = respond(403, f"{request.method} {request.url.path} needs an API key with the role admin")
        response.headers[HEADER] = request_id
        if request.method not in READS:
            self.trail.record(caller, request, request_id, response.status_code)
        return response

    async def _pass_on(self, rest: str, request: Request, request_id: str, caller: Caller) -> Response:
        owner = self.owners.get(rest.partition("/")[0])
        if owner is None or ".." in rest.split("/"):
            return problem_response(404, f"there is no {request.url.path}; see /api/docs/ for what there is")
        # Quoted again, for the server decoded it: what was checked above is then what the service reads.
        url = httpx.URL(owner).copy_with(path=quote(f"/v1/{rest}"), query=request.scope["query_string"] or None)
        trace = [(name.encode(), value.encode()) for name, value in traces.carrier().items()]
        not_sent_on = NOT_SENT_ON | TRACE_HEADERS if trace else NOT_SENT_ON
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if name not in not_sent_on and not name.startswith(NOT_SENT_ON_PREFIXES)
        ]
        headers += [(HEADER.encode(), request_id.encode()), *caller.headers, *trace]
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        try:
            upstream = self.http.build_request(
                request.method, url, headers=headers, content=request.stream() if has_body else None
            )
            reply = await self.http.send(upstream, stream=True)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except httpx.HTTPError as error:
            log.warning("%s is away: %s", owner, error)
            respond = openai_response if is_openai_control(url.path) else problem_response
            return respond(503, "this part of Hearth is not reachable; try again", retry_after=RETRY_SECONDS)
        given = [(name.lower(), value) for name, value in reply.headers.raw]
        response = StreamingResponse(_body(reply), status_code=reply.status_code)
        response.raw_headers = [(name, value) for name, value in given if name not in NOT_SENT_BACK]
        return response


def _refusal(refused: Refused, respond: Callable[[int, str], Response]) -> Response:
    response = respond(refused.status, refused.message)
    response.raw_headers += refused.headers
    return response


async def _body(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.aiter_raw():
            yield chunk
    finally:
        await reply.aclose()
