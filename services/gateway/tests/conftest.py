"""A real gateway on a real server, and engines that misbehave when told to.

The engines are stand-ins: small ASGI apps, since a real engine cannot be told to be slow, to break off, or to say when
its client left. What real engines answer through the gateway is tested in tests/e2e.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.server import server_options
from hearth_gateway.tokens import TokenPlane
from hearth_jobs.nodes import NodeRegistry
from redis import Redis
from starlette.types import Receive, Scope, Send
from tenacity import Retrying, stop_after_delay, wait_fixed

from services.gateway.tests.dialled import Client, Dial
from tests.support.servers import free_port, running
from tests.support.wire import Wire, wire


@dataclass
class StandIn:
    """An engine: says what it got, and behaves as `how` says."""

    how: str = "echo"  # echo, stream, silent, half, break
    port: int = field(default_factory=free_port)
    got: list[tuple[str, bytes]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)  # the headers of what it got
    left: threading.Event = field(default_factory=threading.Event)  # the gateway closed the connection early
    go_on: threading.Event = field(default_factory=threading.Event)  # a stream's second event may be sent

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.got.append((scope["path"], body))
        self.heads.append({name.decode(): value.decode() for name, value in scope["headers"]})
        leaving = asyncio.ensure_future(self._watch(receive))
        try:
            await self._answer(body, send)
        finally:
            leaving.cancel()

    async def _watch(self, receive: Receive) -> None:
        await receive()
        self.left.set()

    async def _answer(self, body: bytes, send: Send) -> None:
        kind = b"text/event-stream" if self.how in ("stream", "half") else b"application/json"
        start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        if self.how == "silent":
            await asyncio.to_thread(self.left.wait, 20)
            return
        if self.how == "break":
            raise ConnectionResetError
        await send(start)
        if self.how == "echo":
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
        if self.how == "half":
            raise ConnectionResetError
        while not self.go_on.is_set() and not self.left.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


@dataclass
class Place:
    """The gateway, and what stands behind it."""

    gateway: Gateway
    http: httpx.Client
    redis: Redis
    serve: Callable[..., StandIn]

    def report(self, engine: StandIn, *names: str, kind: Engine = Engine.VLLM, **more: Any) -> NodeReport:
        """Say in Redis that the engine answers to these names, and wait until the gateway knows."""
        state = more.pop("state", DeploymentState.READY)
        report = NodeReport(
            node_id=f"node-{engine.port}", deployment="default", engine=kind, state=state, url=engine.url,
            models=names, model_id="org/base", generation=1, **more,
        )  # fmt: skip
        NodeRegistry(self.redis).report(report)
        if state is DeploymentState.READY:
            self.eventually(lambda: engine.url in self.gateway.router.table.ready[names[0]].urls)
        return report

    @staticmethod
    def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
        for attempt in Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.01)):
            with attempt:
                assert condition()


def serving(gateway: Gateway, port: int) -> uvicorn.Config:
    """The server as `hearth_gateway.server` sets it up, on another port."""
    return uvicorn.Config(gateway, **(server_options(gateway.settings) | {"port": port}))


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that differ from the default; a test gives its own by indirect parametrization."""
    return getattr(request, "param", {})


@pytest.fixture
def place(redis: Redis, limits: dict[str, Any]) -> Iterator[Place]:
    port, dead = free_port(), free_port()
    away = f"http://127.0.0.1:{dead}"
    settings = GatewaySettings(management_url=away, dataset_url=away, **({"max_body_bytes": 10_000} | limits))
    gateway = Gateway(settings, redis)
    with ExitStack() as stack:

        def serve(how: str = "echo") -> StandIn:
            engine = StandIn(how)
            stack.enter_context(running(uvicorn.Config(engine, port=engine.port, lifespan="off", log_config=None)))
            return engine

        stack.enter_context(running(serving(gateway, port)))
        http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20))
        yield Place(gateway, http, redis, serve)


@pytest.fixture
def engine(place: Place) -> Iterator[Wire]:
    """An engine that serves LLM, played by the test."""
    with wire() as far:
        place.report(far, "LLM")  # type: ignore[arg-type]
        yield far


@pytest.fixture
def dial(place: Place) -> Iterator[Dial]:
    """Open connections to the gateway."""
    opened: list[Client] = []

    def one() -> Client:
        port = place.http.base_url.port
        assert port is not None
        opened.append(Client(port))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


def plane(place: Place) -> TokenPlane:
    return place.gateway.tokens


def is_idle(place: Place) -> bool:
    return not plane(place)._active and not plane(place)._held and not place.gateway.router._outstanding


def asking(model: str, **more: Any) -> bytes:
    """A body as a client would write it, with spaces that a re-encoding would lose."""
    return json.dumps({"model": model, **more}, indent=3).encode()
