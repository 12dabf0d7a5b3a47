"""The clients' connections: uvicorn's HTTP/1.1 server, but POSTs to token routes are answered without ASGI.

What ASGI costs for each event of a stream (a dict, two coroutines, framing) is most of what a gateway can cost, so
those requests go to an `Exchange` that reads and writes the connection itself. All other requests are uvicorn's as
ever. For both kinds this adds limits in size and time to heads and bodies, which uvicorn has not.
"""

import asyncio
import math
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hearth_gateway.exchange import Exchange
from hearth_gateway.incoming import Incoming
from hearth_gateway.replies import answer_head
from hearth_gateway.tokens import TokenPlane
from hearth_gateway.upstream import Headers

MOST_PIPELINED = 16
"""Requests sent ahead on one connection before it is read no further."""

_CLOSE = (b"connection", b"close")
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


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
        self.keep_alive = True  # after the answer that is being given
        self.exchange: Exchange | None = None  # being answered
        self.draining = False
        self.goes_on = False  # with what was sent ahead
        self.held = False  # it does not read what it was answered: nothing more is read of it either
        self.held_until = math.inf
        self.incoming = Incoming(self.plane, self)
        self.parser = httptools.HttpRequestParser(self.incoming)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.incoming.parser = self.parser

    # What the event loop tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.plane.clients.add(self)
        self.incoming.deadline = self.plane.now() + self.plane.head_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.plane.clients.discard(self)
        waiting = [cycle for cycle, _ in self.pipeline if isinstance(cycle, Exchange)]
        self.pipeline.clear()
        for exchange in (self.exchange, self.incoming.reading, *waiting):
            if exchange is not None:
                exchange.client_left()
        self.incoming.leave()

    def data_received(self, data: bytes) -> None:
        incoming = self.incoming
        may_begin = 1 if incoming.is_between else 0
        incoming.begun = 0
        super().data_received(data)
        if incoming.in_head and incoming.begun <= may_begin:  # else there were other requests in it, or the end of one
            incoming.head_bytes += len(data)  # of a header whose end has not come the parser says nothing
            if incoming.head_bytes > self.plane.max_head_bytes and not self.transport.is_closing():
                self._give_up(_HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP. In the middle of an answer nothing can be said any more."""
        if self.exchange is not None and self.exchange.has_begun:
            self.cut()
            return
        if self.exchange is not None:
            self.exchange.client_left()
            self.exchange = None
        if self.incoming.head_bytes > self.plane.max_head_bytes:
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
        if self.exchange is None and self.incoming.is_between:
            super().shutdown()

    def check(self, now: float) -> None:
        """Called twice a second: end the connection if the client is too slow with what it has to send, or to read."""
        if self.held and now > self.held_until:
            self.transport.abort()
        elif now > self.incoming.deadline and not self.flow.read_paused and not self.transport.is_closing():
            self._give_up(b"" if self.incoming.is_between else _TOO_SLOW)

    def _give_up(self, answer: bytes) -> None:
        self.incoming.in_head = False
        self.incoming.deadline = math.inf
        self.plane.writes.flush()
        if answer and self.exchange is None and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(answer)
        self.transport.close()

    # What the parser tells, through `incoming`

    def begin_asgi(self, url: bytes, headers: Headers, expects: bool) -> None:
        """A request's head is whole that uvicorn answers."""
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope has this very list
        super().on_headers_complete()

    def take(self, exchange: Exchange) -> None:
        """A request's head is whole that is answered here."""
        if self._is_busy():
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
            if len(self.pipeline) >= MOST_PIPELINED:
                self.flow.pause_reading()
        else:
            self._begin(exchange)

    def _should_upgrade(self) -> bool:
        """No: none is spoken here. uvicorn would look into headers, which a token route's request gives it not."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn would advise to install a library for WebSockets, whatever was offered."""

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

    def head(self, status: int, request_id: bytes, headers: Headers, lines: bytes) -> bytes:
        """An answer's head, as it is to be sent; `lines` are of more headers."""
        if self.draining:
            self.keep_alive = False
        last = [(b"x-request-id", request_id)] if self.keep_alive else [(b"x-request-id", request_id), _CLOSE]
        return answer_head(status, [*self.server_state.default_headers, *headers, *last], lines)

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
        if self.exchange is None and not self._is_busy() and self.incoming.is_between:
            self.incoming.deadline = self.plane.now() + self.plane.settings.keep_alive_timeout
        self.flow.resume_reading()

    def cut(self) -> None:
        """End the connection at once, after what it was sent."""
        self.plane.writes.flush()
        self.transport.abort()
