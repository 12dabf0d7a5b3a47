"""The token plane: bytes from a client to the engine that serves its model, and back, as they come.

Bare ASGI. It reads `model` and `stream` of a body and nothing else; it never buffers or re-encodes.
"""

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from hearth_contracts.deploy import Task
from hearth_web.request_id import HEADER, accept_request_id
from starlette.types import Receive, Scope, Send

from hearth_gateway.replies import Refused, error_body, send_json
from hearth_gateway.routing import Router
from hearth_gateway.upstream import Broken, Refusal, Upstream

log = logging.getLogger(__name__)

TASK_FOR = {
    "completions": Task.GENERATE,
    "chat/completions": Task.GENERATE,
    "embeddings": Task.EMBED,
    "rerank": Task.RERANK,
}
"""The routes, below /v1/, and what a model must be served for to answer each."""

DOES = {Task.GENERATE: "generates text", Task.EMBED: "embeds text", Task.RERANK: "ranks documents"}

PASSED_BACK = frozenset({b"content-type", b"content-length", b"content-encoding", b"retry-after"})
EVENT_STREAM = "text/event-stream"


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Asked:
    """What the gateway reads of a body."""

    model: str
    stream: bool


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body. Raises Refused when it is too large, ClientGone."""
    too_large = Refused(413, f"the body is larger than {limit} bytes")
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise too_large
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def read_asked(body: bytes) -> Asked:
    """`model` and `stream`. Raises Refused."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Refused(400, "the body must be a JSON object")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise Refused(400, "`model` must name a model, e.g. Compressa-LLM", param="model")
    return Asked(model, fields.get("stream") is True)


class TokenPlane:
    """Answers the routes of TASK_FOR, and OpenAI's list of models."""

    def __init__(self, router: Router, upstream: Upstream, max_body_bytes: int) -> None:
        self.router = router
        self.upstream = upstream
        self.max_body_bytes = max_body_bytes

    async def forward(self, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to one of the routes."""
        request_id = _request_id(scope)
        try:
            body = await read_body(scope, receive, self.max_body_bytes)
            urls = self.find(route, read_asked(body).model)
            await self._race(f"/v1/{route}", urls, body, request_id, receive, send)
        except ClientGone:
            log.info("the client of request %s left", request_id)
        except Refused as refused:
            await send_json(send, refused.status, refused.body, [*refused.headers, _id_header(request_id)])

    def find(self, route: str, model: str) -> list[str]:
        """The engines that can answer, best first. Raises Refused."""
        table = self.router.table
        found = table.ready.get(model)
        if found is None:
            if model in table.expected or not self.router.loaded:
                raise Refused(503, f"the model `{model}` is being loaded; try again", code="model_loading", retry=True)
            served = ", ".join(sorted(table.ready)) or "nothing; deploy a model first"
            message = f"The model `{model}` does not exist. Served now: {served}"
            raise Refused(404, message, code="model_not_found", param="model")
        if found.task is not TASK_FOR[route]:
            raise Refused(400, f"the model `{model}` {DOES[found.task]}; it does not answer /v1/{route}", param="model")
        return self.router.choices(found)

    async def _race(
        self, path: str, urls: list[str], body: bytes, request_id: str, receive: Receive, send: Send
    ) -> None:
        """Forward, but stop at once when the client leaves: closing the connection aborts the engine's work."""
        work = asyncio.ensure_future(self._try_each(path, urls, body, request_id, send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone
            await work
        finally:
            for task in (work, leaving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _try_each(self, path: str, urls: list[str], body: bytes, request_id: str, send: Send) -> None:
        """Ask one engine after the other until one takes the request; once it has, there is no second try."""
        for url in urls:
            self.router.begin(url)
            try:
                await self._forward_to(url + path, body, request_id, send)
                return
            except Refusal as refusal:
                log.warning("engine %s refuses connections: %s", url, refusal)
                self.router.shun(url)
            finally:
                self.router.end(url)
        raise Refused(503, "no engine takes requests right now; try again", code="engine_unavailable", retry=True)

    async def _forward_to(self, url: str, body: bytes, request_id: str, send: Send) -> None:
        headers = [("content-type", "application/json"), (HEADER, request_id)]
        streams = started = False
        try:
            async with self.upstream.post(url, body, headers) as answer:
                streams = answer.content_type.startswith(EVENT_STREAM)
                kept = [(name.lower(), value) for name, value in answer.headers if name.lower() in PASSED_BACK]
                if streams:
                    kept += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
                start: dict[str, Any] = {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [*kept, _id_header(request_id)],
                }
                async for chunk in answer.chunks:
                    if not started:
                        await send(start)
                        started = True
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if not started:
                    await send(start)
        except Broken as broken:
            log.warning("engine at %s broke off request %s: %s", url, request_id, broken)
            if not started:
                raise Refused(502, "the engine broke off before it answered", code="engine_failed") from None
            if not streams:
                raise  # the length was promised: only a cut connection tells the client that it is short
            event = error_body(502, "the engine broke off in the middle of its answer", code="engine_failed")
            # The blank line first: the engine may have broken off inside an event, which would swallow this one.
            await send({"type": "http.response.body", "body": b"\n\ndata: " + event + b"\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def list_models(self, scope: Scope, send: Send) -> None:
        """OpenAI's list: every name that is answered to right now."""
        entries = [self._entry(name) for name in sorted(self.router.table.ready)]
        body = json.dumps({"object": "list", "data": entries}).encode()
        await send_json(send, 200, body, [_id_header(_request_id(scope))])

    async def show_model(self, name: str, scope: Scope, send: Send) -> None:
        """One entry of that list."""
        if name not in self.router.table.ready:
            served = ", ".join(sorted(self.router.table.ready)) or "nothing"
            message = f"The model `{name}` does not exist. Served now: {served}"
            body, status = error_body(404, message, code="model_not_found", param="model"), 404
        else:
            body, status = json.dumps(self._entry(name)).encode(), 200
        await send_json(send, status, body, [_id_header(_request_id(scope))])

    def _entry(self, name: str) -> dict[str, Any]:
        route = self.router.table.ready[name]
        return {"id": name, "object": "model", "created": 0, "owned_by": "hearth", "parent": route.base}


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == HEADER.encode()), None)
    return accept_request_id(given.decode("latin-1") if given else None)


def _id_header(request_id: str) -> tuple[bytes, bytes]:
    return (HEADER.encode(), request_id.encode())
