"""A server that breaks off, refuses and comes back when told to.

It is a stand-in: the real gateway cannot be told to. The client on the real platform is tested in tests/contract.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.servers import free_port, running

Answer = Callable[[Request], Response]


class Broken(Exception):
    """Raised by an answer: the connection closes in the middle of it."""


@dataclass
class StandIn:
    """Answers with what stands next in `answers`, the last one again and again."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.asked.append(request)
        return self.answers[min(len(self.asked), len(self.answers)) - 1](request)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])])


@contextmanager
def standing_in(server: StandIn) -> Iterator[StandIn]:
    """It listens while the block runs."""
    config = uvicorn.Config(server.app(), port=server.port, lifespan="off", log_config=None)
    with running(config):
        yield server
