"""The token plane: which request goes to which engine, and all that is at work. An `Exchange` does the work."""

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from hearth_contracts.deploy import Task
from hearth_web.request_id import HEADER, accept_request_id
from starlette.types import Scope, Send

from hearth_gateway import measures
from hearth_gateway.asked import Asked
from hearth_gateway.config import GatewaySettings
from hearth_gateway.door import Caller, Door
from hearth_gateway.pages import Pages
from hearth_gateway.replies import Refused, Waking, error_body, send_json
from hearth_gateway.routing import Router
from hearth_gateway.upstream import Upstream
from hearth_gateway.writes import Writes

if TYPE_CHECKING:
    from hearth_gateway.exchange import Exchange
    from hearth_gateway.protocol import TokenProtocol

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.5
PREFIXES = ("/v1/", "/api/v1/")

TASK_FOR: Final = {
    "completions": Task.GENERATE,
    "chat/completions": Task.GENERATE,
    "embeddings": Task.EMBED,
    "rerank": Task.RERANK,
}
"""The routes, below /v1/, and what a model must be served for to answer each."""

DOES = {Task.GENERATE: "generates text", Task.EMBED: "embeds text", Task.RERANK: "ranks documents"}


class TokenPlane:
    """The routes of TASK_FOR, and OpenAI's list of models. Used by the event loop alone."""

    def __init__(
        self, router: Router, upstream: Upstream, writes: Writes, door: Door, pages: Pages, settings: GatewaySettings
    ) -> None:
        self.router = router
        self.upstream = upstream
        self.writes = writes
        self.door = door
        self.pages = pages
        self.settings = settings
        self.max_body_bytes = settings.max_body_bytes
        self.max_head_bytes = settings.max_head_bytes
        self.head_timeout = settings.head_timeout
        self.body_timeout = settings.body_timeout
        self.routes = _paths(settings.root_path)
        self.now = asyncio.get_running_loop().time
        self.clients: set[TokenProtocol] = set()
        self._active: set[Exchange] = set()
        self._held = 0
        self._waiting = 0
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check)

    # What is at work

    def enter(self, exchange: "Exchange") -> None:
        """A request begins. Raises Refused: 429 when there are too many already."""
        is_full = len(self._active) >= self.settings.max_requests
        self._active.add(exchange)
        self.writes.at_work += 1
        if is_full:
            raise Refused(429, "too many requests at once; try again", code="too_many_requests", retry=True)

    def hold(self, size: int) -> bool:
        """Make room for so many bytes of a body, if there is any."""
        if self._held + size > self.settings.max_buffered_bytes:
            return False
        self._held += size
        return True

    def let_wait(self, waking: Waking) -> float:
        """Have one more request wait for an engine; until when. Raises Waking where too many do."""
        self.router.asked.add(waking.deployment)
        if self._waiting >= self.settings.wake_requests:
            raise waking
        self._waiting += 1
        return self.now() + self.settings.wake_seconds

    def waits_no_more(self) -> None:
        """It has found one, or given up."""
        self._waiting -= 1

    def leave(self, exchange: "Exchange", held: int) -> None:
        """A request is over, and the memory of its body free."""
        self._active.discard(exchange)
        self.writes.at_work -= 1
        self._held -= held

    def _check(self) -> None:
        """End what has waited for too long."""
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check)  # whatever becomes of this one
        now = self.now()
        for exchange in list(self._active):
            exchange.check(now)
        for client in list(self.clients):
            client.check(now)
        measures.IN_FLIGHT.set(len(self._active))
        measures.bring()

    def close(self) -> None:
        """End whatever is still at work; its clients are told."""
        self._timer.cancel()
        for exchange in list(self._active):
            exchange.shut()
        measures.bring()

    # What goes where

    @staticmethod
    def tells_usage(route: str) -> bool:
        """Whether streams of this route can be asked to tell their usage with each event."""
        return TASK_FOR[route] is Task.GENERATE

    @staticmethod
    def embeds(route: str) -> bool:
        """Whether the route's tokens are counted as embedded."""
        return TASK_FOR[route] is not Task.GENERATE

    def find(self, route: str, asked: Asked) -> list[str]:
        """The engines that can answer, best first. Raises Refused; Waking when the request may wait for one."""
        model = asked.model
        table = self.router.table
        found = table.ready.get(model) or table.may_sleep.get(model)
        if found is None:
            if model in table.expected or not self.router.loaded:
                raise Refused(503, f"the model `{model}` is being loaded; try again", code="model_loading", retry=True)
            served = ", ".join(sorted(table.ready)) or "nothing; deploy a model first"
            message = f"The model `{model}` does not exist. Served now: {served}"
            raise Refused(404, message, code="model_not_found", param="model")
        if found.task is not TASK_FOR[route]:
            raise Refused(400, f"the model `{model}` {DOES[found.task]}; it does not answer /v1/{route}", param="model")
        if not found.urls:
            raise Waking(model, found.deployment)
        self.router.asked.add(found.deployment)
        length = self.settings.affinity_bytes
        return self.router.choices(found, bytes(asked.messages or asked.prompt)[:length] if length else b"")

    async def list_models(self, caller: Caller, scope: Scope, send: Send) -> None:
        """OpenAI's list: every name that this caller may ask now, though the engine of one may have to start first."""
        entries = [self._entry(name) for name in self._names(caller)]
        body = json.dumps({"object": "list", "data": entries}).encode()
        await send_json(send, 200, body, [_id_header(_request_id(scope))])

    async def show_model(self, name: str, caller: Caller, scope: Scope, send: Send) -> None:
        """One entry of that list."""
        names = self._names(caller)
        if name not in names:
            served = ", ".join(names) or "nothing"
            message = f"The model `{name}` does not exist. Served now: {served}"
            body, status = error_body(404, message, code="model_not_found", param="model"), 404
        else:
            body, status = json.dumps(self._entry(name)).encode(), 200
        await send_json(send, status, body, [_id_header(_request_id(scope))])

    def _names(self, caller: Caller) -> list[str]:
        table = self.router.table
        sleeping = {name for name, route in table.may_sleep.items() if route.deployment in table.asleep}
        return [name for name in sorted(sleeping.union(table.ready)) if caller.may_ask(name)]

    def _entry(self, name: str) -> dict[str, Any]:
        table = self.router.table
        route = table.ready.get(name) or table.may_sleep[name]
        return {"id": name, "object": "model", "created": 0, "owned_by": "hearth", "parent": route.base}


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == HEADER.encode()), None)
    return accept_request_id(given.decode("latin-1") if given else None)


def _id_header(request_id: str) -> tuple[bytes, bytes]:
    return (HEADER.encode(), request_id.encode())


def _paths(root: str) -> dict[bytes, str]:
    """Every way to write a route's path, and the route."""
    return {
        f"{before}{prefix}{route}{slash}".encode(): route
        for route in TASK_FOR
        for before in {"", root}
        for prefix in PREFIXES
        for slash in ("", "/")
    }
