"""What the parser tells of a client's requests, one after the other; those to token routes become an `Exchange`.

Apart from `protocol`, which mypyc cannot compile since it is one of uvicorn's classes: these methods are called a dozen
times a request.
"""

import math
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from hearth_web.request_id import accept_request_id

from hearth_gateway.door import Visitor
from hearth_gateway.exchange import Exchange
from hearth_gateway.heads import Head
from hearth_gateway.upstream import Headers

if TYPE_CHECKING:
    from hearth_gateway.protocol import TokenProtocol
    from hearth_gateway.tokens import TokenPlane

_PROCESS: Final = token_hex(8).encode()
_numbers: Final = count()
_READ: Final = frozenset(
    {
        b"authorization", b"content-length", b"expect", b"host", b"origin", b"traceparent", b"tracestate",
        b"x-request-id",
    }
)  # fmt: skip


def _new_id() -> bytes:
    return b"%b%016x" % (_PROCESS, next(_numbers))


class Incoming:
    """The request that is being read on one connection. Nothing is told after `leave`."""

    def __init__(self, plane: "TokenPlane", client: "TokenProtocol") -> None:
        self.reading: Exchange | None = None  # its body is being read
        self.deadline = math.inf  # when what is awaited of the client must be there
        self.in_head = False
        self.begun = 0  # requests, since this was last set to 0
        self.head_bytes = 0
        self.url = b""
        self.headers: Headers = []
        self.expects = False  # to be told to go on
        self.parser: Any = None  # the one that calls
        self._plane = plane
        self._client: TokenProtocol | None = client
        self._visitor = Visitor(plane.door)
        self._found: dict[bytes, bytes] = {}  # of the head's headers those that an exchange needs

    def leave(self) -> None:
        """The connection is closed. What knows one another is let go of: nothing is left to look for as garbage."""
        self.parser = self._client = None

    @property
    def is_between(self) -> bool:
        """Whether none has begun that is not whole: not one of those that are answered here."""
        return self.reading is None and not self.in_head

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.headers = []
        self.expects = False
        self.in_head = True
        self.begun += 1
        self.head_bytes = 0
        self.deadline = self._plane.now() + self._plane.head_timeout
        self._found = {}

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nothing here reads."""
        if not self.in_head:
            return
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > self._plane.max_head_bytes:
            raise ValueError("the head is too large")
        name = name.lower()
        self.headers.append((name, value))
        if name in _READ:
            self._found[name] = value
            if name == b"expect" and value.lower() == b"100-continue":
                self.expects = True

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        plane, parser, client = self._plane, self.parser, self._client
        assert client is not None
        self.in_head = False
        route = self._route() if parser.get_method() == b"POST" else None
        if route is None:
            self.deadline = math.inf
            client.begin_asgi(self.url, self.headers, self.expects)
            return
        self.deadline = plane.now() + plane.body_timeout
        upgrades: bool = parser.should_upgrade()
        may_chunk = parser.get_http_version() != "1.0"
        found = self._found
        request_id, length = found.get(b"x-request-id"), found.get(b"content-length")
        head = Head(
            route,
            accept_request_id(request_id.decode("latin-1")).encode() if request_id else _new_id(),
            found.get(b"authorization"),
            found.get(b"origin"),
            found.get(b"host"),
            int(length) if length else None,
            self.expects,
            upgrades,
            may_chunk,
            may_chunk and not upgrades and bool(parser.should_keep_alive()),
            found.get(b"traceparent"),
            found.get(b"tracestate"),
        )
        self.reading = exchange = Exchange(plane, client, self._visitor, head)
        client.take(exchange)

    def _route(self) -> str | None:
        route = self._plane.routes.get(self.url)
        if route is not None:
            return route
        try:
            path = httptools.parse_url(self.url).path
        except httptools.HttpParserInvalidURLError:
            return None
        return self._plane.routes.get(unquote(path.decode("latin-1")).encode()) if path else None

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        if self.reading is not None:
            self.reading.on_body(body)
        elif self._client is not None:
            self._client.on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        self.deadline = math.inf
        reading = self.reading
        if reading is not None:
            self.reading = None
            reading.on_body_end()
        elif self._client is not None:
            self._client.on_message_complete()
