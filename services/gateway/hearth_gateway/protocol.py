"""The clients' connections: uvicorn's HTTP/1.1 server, but POSTs to token routes are answered without ASGI.

What ASGI costs for each event of a stream (a dict, two coroutines, framing) is most of what a gateway can cost, so
those requests go to an `Exchange` that reads and writes the connection itself. All other requests are uvicorn's as
ever. For both kinds this adds limits in size and time to heads and bodies, which uvicorn has not.
"""

import asyncio
import math
from http import HTTPStatus
from itertools import count
from secrets import token_hex
from typing import Any
from urllib.parse import unquote

import httptools
from hearth_web.request_id import accept_request_id
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hearth_gateway.exchange import Exchange
from hearth_gateway.heads import Head
from hearth_gateway.tokens import TokenPlane
from hearth_gateway.upstream import Headers

MOST_PIPELINED = 16
"""Requests sent ahead on one connection before it is read no further."""

_PROCESS = token_hex(8).encode()
_numbers = count()
_READ = frozenset(
    {
        b"authorization", b"content-length", b"expect", b"host", b"origin", b"traceparent", b"tracestate",
        b"x-request-id",
    }
)  # fmt: skip
_STATUS_LINE = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def _new_id() -> bytes:
    return b"%b%016x" % (_PROCESS, next(_numbers))


class TokenProtocol(HttpToolsProtocol):
    """One client's connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.plane: TokenPlane = app_state["tokens"]
        self._write = self.plane.writes.write
        self.keep_alive = True  # after the answer that is being given
        self.exchange: Exchange | None = None  # being answered
        self.reading: Exchange | None = None  # its body is being read
        self.draining = False
        self.goes_on = False  # with what was sent ahead
        self.held = False  # it does not read what it was answered: nothing more is read of it either
        self.held_until = math.inf
        self.deadline = math.inf  # when what is awaited of the client must be there
        self.in_head = False
        self.begun = 0  # requests, in what was read last
        self.head_bytes = 0
        self._found: dict[bytes, bytes] = {}  # of the head's headers those that an exchange needs

    # What the event loop tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.plane.clients.add(self)
        self.deadline = self.plane.now() + self.plane.settings.head_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.plane.clients.discard(self)
        waiting = [cycle for cycle, _ in self.pipeline if isinstance(cycle, Exchange)]
        self.pipeline.clear()
        for exchange in (self.exchange, self.reading, *waiting):
            if exchange is not None:
                exchange.client_left()

    def data_received(self, data: bytes) -> None:
        is_next = not self.in_head and self.reading is None
        self.begun = 0
        super().data_received(data)
        if self.in_head and self.begun <= is_next:  # else there were other requests in it, or the end of one
            self.head_bytes += len(data)  # of a header whose end has not come the parser says nothing
            if self.head_bytes > self.plane.settings.max_head_bytes and not self.transport.is_closing():
                self._give_up(_HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP. In the middle of an answer nothing can be said any more."""
        if self.exchange is not None and self.exchange.has_begun:
            self.cut()
            return
        if self.exchange is not None:
            self.exchange.client_left()
            self.exchange = None
        if self.head_bytes > self.plane.settings.max_head_bytes:
            self._give_up(_HEAD_TOO_LARGE)
        else:
            self.plane.writes.flush()
            super().send_400_response(msg)

    def eof_received(self) -> None:
        self.plane.writes.flush()  # the transport closes itself now

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.exchange is not None:
            self.exchange.pause()
        elif not self._in_asgi():
            self._hold()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.exchange is not None:
            self.exchange.resume()
        elif self.held:
            self.held = False
            self._go_on()

    def shutdown(self) -> None:
        """The server ends: close once what has begun is answered."""
        self.draining = True
        self.plane.writes.flush()
        if self.exchange is None and self.reading is None and not self.in_head:
            super().shutdown()

    def check(self, now: float) -> None:
        """Called twice a second: end the connection if the client is too slow with what it has to send, or to read."""
        if self.held and now > self.held_until:
            self.transport.abort()
        elif now > self.deadline and not self.flow.read_paused and not self.transport.is_closing():
            self._give_up(_TOO_SLOW if self.in_head or self.reading is not None else b"")

    def _give_up(self, answer: bytes) -> None:
        self.in_head = False
        self.deadline = math.inf
        self.plane.writes.flush()
        if answer and self.exchange is None and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(answer)
        self.transport.close()

    # What the parser tells

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.in_head = True
        self.begun += 1
        self.head_bytes = 0
        self.deadline = self.plane.now() + self.plane.settings.head_timeout
        self._found = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer: nothing here reads them
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > self.plane.settings.max_head_bytes:
            raise ValueError("the head is too large")
        name = name.lower()  # from here on as uvicorn does, without a second call for each header
        self.headers.append((name, value))
        if name in _READ:
            self._found[name] = value
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self.in_head = False
        settings = self.plane.settings
        route = self._route() if self.parser.get_method() == b"POST" else None
        self.deadline = self.plane.now() + settings.body_timeout if route is not None else math.inf
        if route is None:
            self._begin_scope()
            super().on_headers_complete()
            return
        upgrades = self.parser.should_upgrade()
        may_chunk = self.parser.get_http_version() != "1.0"
        found = self._found.get
        request_id, length = found(b"x-request-id"), found(b"content-length")
        head = Head(
            route=route,
            request_id=accept_request_id(request_id.decode("latin-1")).encode() if request_id else _new_id(),
            authorization=found(b"authorization"),
            origin=found(b"origin"),
            host=found(b"host"),
            length=int(length) if length else None,
            wants_continue=self.expect_100_continue,
            wants_upgrade=upgrades,
            may_chunk=may_chunk,
            keep_alive=may_chunk and not upgrades and self.parser.should_keep_alive(),
            traceparent=found(b"traceparent"),
            tracestate=found(b"tracestate"),
        )
        exchange = Exchange(self.plane, self, head)
        self.reading = exchange
        if self._is_busy():
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
            if len(self.pipeline) >= MOST_PIPELINED:
                self.flow.pause_reading()
        else:
            self._begin(exchange)

    def _begin_scope(self) -> None:
        """uvicorn does this as a message begins; a token route has no use for it."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope has this very list

    def _route(self) -> str | None:
        route = self.plane.routes.get(self.url)
        if route is not None:
            return route
        try:
            path = httptools.parse_url(self.url).path
        except httptools.HttpParserInvalidURLError:
            return None
        return self.plane.routes.get(unquote(path.decode("latin-1")).encode()) if path else None

    def on_body(self, body: bytes) -> None:
        if self.reading is not None:
            self.reading.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.deadline = math.inf
        if self.reading is not None:
            reading, self.reading = self.reading, None
            reading.on_body_end()
        else:
            super().on_message_complete()

    # One request after the other

    def _in_asgi(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_busy(self) -> bool:
        return self._in_asgi() or self.exchange is not None or self.held or bool(self.pipeline)

    def _hold(self) -> None:
        self.held = True
        self.held_until = self.plane.now() + self.plane.settings.idle_timeout
        self.flow.pause_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn calls this for a request whose turn it is."""
        if isinstance(cycle, Exchange):
            self._begin(cycle)
        elif self.exchange is not None:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            super()._start_asgi_task(cycle, app)

    def _begin(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.keep_alive = exchange.keep_alive
        exchange.start()

    # What an exchange does

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._write(self.transport, data)

    def head(self, status: int, request_id: bytes, headers: Headers) -> bytes:
        """An answer's head, as it is to be sent."""
        if self.draining:
            self.keep_alive = False
        lines = [_STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status]
        lines += [b"%b: %b\r\n" % each for each in self.server_state.default_headers]
        lines += [b"%b: %b\r\n" % each for each in headers]
        lines.append(b"x-request-id: %b\r\n\r\n" % request_id if self.keep_alive else
                     b"x-request-id: %b\r\nconnection: close\r\n\r\n" % request_id)  # fmt: skip
        return b"".join(lines)

    def answered(self, exchange: Exchange) -> None:
        """The answer is sent: on to the next request."""
        self.exchange = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not self.keep_alive or self.draining:
            self.plane.writes.flush()
            self.transport.close()
        elif self.flow.write_paused:
            self._hold()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Begin what was sent ahead, until something takes its time."""
        if self.goes_on:
            return  # one that was answered at once: the loop below goes on, which no number of them makes deep
        self.goes_on = True
        try:
            while self.pipeline and self.exchange is None and not self.held and not self.transport.is_closing():
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
                if not isinstance(cycle, Exchange):
                    break
        finally:
            self.goes_on = False
        if self.held or self.transport.is_closing():
            return
        if self.exchange is None and not self._is_busy() and self.reading is None and not self.in_head:
            self.deadline = self.plane.now() + self.plane.settings.keep_alive_timeout
        self.flow.resume_reading()

    def cut(self) -> None:
        """End the connection at once, after what it was sent."""
        self.plane.writes.flush()
        self.transport.abort()
