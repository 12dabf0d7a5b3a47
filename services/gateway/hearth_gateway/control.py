"""The control plane's door: each path to the service that owns it, streamed in both directions."""

import logging
from collections.abc import AsyncIterator

import httpx
from hearth_web.errors import RETRY_SECONDS, problem_response
from hearth_web.request_id import HEADER, accept_request_id
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from hearth_gateway.config import GatewaySettings

log = logging.getLogger(__name__)

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "host",
    }
)  # fmt: skip
"""Headers about one connection (RFC 9110, 7.6.1), and the address that the client used."""

LONGEST_STEP_SECONDS = 600.0


class ControlPlane:
    """Passes control requests on."""

    def __init__(self, settings: GatewaySettings) -> None:
        management = settings.management_url
        self.owners = {
            "datasets": settings.dataset_url,
            **dict.fromkeys(("models", "deploy", "jobs", "finetune"), management),
        }
        timeout = httpx.Timeout(LONGEST_STEP_SECONDS, connect=settings.connect_timeout, pool=10)
        self.http = httpx.AsyncClient(timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=200))

    async def close(self) -> None:
        """Close every connection."""
        await self.http.aclose()

    async def forward(self, rest: str, request: Request) -> Response:
        """Answer a request for `/api/v1/<rest>` with what the owner of its first segment says."""
        owner = self.owners.get(rest.partition("/")[0])
        if owner is None or ".." in rest.split("/"):
            return problem_response(404, f"there is no {request.url.path}; see /api/docs/ for what there is")
        url = httpx.URL(owner).copy_with(path=f"/v1/{rest}", query=request.url.query.encode() or None)
        headers = [(name, value) for name, value in request.headers.items() if name not in (*HOP_BY_HOP, HEADER)]
        headers.append((HEADER, accept_request_id(request.headers.get(HEADER))))
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
            return problem_response(503, "this part of Hearth is not reachable; try again", retry_after=RETRY_SECONDS)
        kept = [(name, value) for name, value in reply.headers.multi_items() if name not in HOP_BY_HOP]
        response = StreamingResponse(_body(reply), status_code=reply.status_code)
        response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]
        return response


async def _body(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.aiter_raw():
            yield chunk
    finally:
        await reply.aclose()
