"""Requests to engines over pooled keep-alive connections: HTTP/1.1 on httptools, without a task or a future a request.

Ours, because it was measured: no client library of Python's came near (docs/decisions). It knows what an engine needs
and nothing else: POST with a body of known length, an answer framed by length, by chunks or by the connection's end,
interim answers and trailers passed over. What is not HTTP/1.1 to the letter ends the connection: no answer is guessed.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

import httptools

from hearth_gateway.writes import MOST_JOINED, Writes

IDLE_SECONDS = 2.0
"""How long an idle connection is kept. Engines close theirs after five seconds (uvicorn's default): a request sent at
that very moment would be lost, and nobody could tell whether the engine had begun with it."""

LOST_SECONDS = 15
"""A host that acknowledges nothing for so long is gone: another engine may be asked. For an engine that is busy or
frozen its kernel does."""

SLOW_SECONDS = 30
"""The same of a body that an engine's kernel may have no room for until the engine reads: by then its node has ended an
engine that shows no work (`hearth_inference.health`)."""

PROBE_SECONDS = 5

SWEEP_SECONDS = 0.5
MAX_HEAD_BYTES: Final = 64 * 1024
FRAMING: Final = (b"content-length", b"transfer-encoding")
WITHOUT_BODY: Final = frozenset({204, 304})

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):
    """The engine took no connection: nothing of the request was sent, so another one may be asked."""


class Sink(Protocol):
    """Who waits for an answer. After `on_end` or `on_broken` nothing more is called."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The answer's head; header names in lower case."""

    def on_data(self, data: bytes) -> None:
        """All of the body that came in one read, chunk framing taken off."""

    def on_end(self) -> None:
        """The answer is whole."""

    def on_broken(self, reason: str) -> None:
        """The connection ended, or what came is not HTTP, before the answer was whole."""


class Connection(asyncio.Protocol):
    """One connection to an engine; one request at a time."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.is_reused = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport
        self._sink: Sink | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._broken: str | None = None
        self._read_paused = False
        self._is_patient = False  # with a large body
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_head = True
        self._is_interim = False
        self._until_close = False
        self._pieces: list[bytes] = []
        self._is_whole = False
        self._may_be_kept = False

    # What is asked

    def send(self, head: bytes, body: bytes, sink: Sink) -> None:
        """Send a request; its answer goes to `sink`."""
        self._sink = sink
        write = self.pool.writes.write
        if len(body) < MOST_JOINED:
            write(self.transport, head + body)
        else:  # not copied once more
            self._is_patient = True
            self._wait_for_lost(SLOW_SECONDS)
            write(self.transport, head)
            write(self.transport, body)

    def abort(self) -> None:
        """Nobody waits any more: close the connection, which ends the engine's work."""
        self._sink = None
        self.transport.abort()

    def pause(self) -> None:
        """Read nothing more until `resume`: the engine is held back once the kernel's buffers are full."""
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if (wire := transport.get_extra_info("socket")) is not None:
            # Linux's own: the first for what was sent, the others while nothing is.
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_SECONDS * 1000)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_SECONDS)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                self._broken = "its head is too large"
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken = self._broken or f"what it sent is not HTTP: {error}"
        sink = self._sink
        if sink is None:
            self._drop()
            return
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            sink.on_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._is_whole:
            self._finish(sink)
        elif self._broken is not None:
            self._fail(self._broken)

    def eof_received(self) -> None:
        if self._sink is not None and self._until_close and not self._in_head:
            self._may_be_kept = False
            self._finish(self._sink)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        self._fail("it closed the connection" if exc is None else f"the connection broke: {exc}")

    def _wait_for_lost(self, seconds: int) -> None:
        if (wire := self.transport.get_extra_info("socket")) is not None:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)

    def _finish(self, sink: Sink) -> None:
        self._sink = None
        if self._may_be_kept and self._broken is None and not self.transport.is_closing():
            if self._is_patient:
                self._is_patient = False
                self._wait_for_lost(LOST_SECONDS)
            self.resume()
            self._reset()
            self.pool.put_back(self)
        else:
            self._drop()
        sink.on_end()

    def _fail(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        self._drop()
        if sink is not None:
            sink.on_broken(reason)

    def _drop(self) -> None:
        self.pool.forget(self)
        self.transport.abort()

    # What the parser tells

    def on_message_begin(self) -> None:
        if self._sink is None or self._is_whole:
            self._broken = "it sent more than was asked for"
            raise ValueError(self._broken)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which is passed over
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            if status == 101:
                self._broken = "it switched protocols unasked"
                raise ValueError(self._broken)
            self._is_interim = True
            return
        framing = [each for each in self._headers if each[0] in FRAMING]
        if len(framing) > 1 or (framing and framing[0][0] == FRAMING[1] and framing[0][1].lower() != b"chunked"):
            self._broken = "its answer's length is not clear"
            raise ValueError(self._broken)
        self._in_head = False
        self._until_close = not framing and status not in WITHOUT_BODY
        if self._sink is not None:
            self._sink.on_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
            self._headers = []
            return
        self._is_whole = True
        self._may_be_kept = self._parser.should_keep_alive()


class Pool:
    """The connections to one engine. The one used last is taken first, so that those too many grow old."""

    def __init__(self, url: str, connect_timeout: float, clock: Callable[[], float], writes: Writes) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host, self.port = parts.hostname, parts.port or 80
        self.authority = parts.netloc.encode()
        self.writes = writes
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()

    def take(self) -> Connection | None:
        """An idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                connection.is_reused = True
                return connection
        return None

    async def connect(self) -> Connection:
        """A new connection. Raises Refusal."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        except TimeoutError:
            raise Refusal(f"no connection within {self._connect_timeout} s") from None
        except OSError as error:
            raise Refusal(str(error)) from error
        self._open.add(connection)
        return connection

    def put_back(self, connection: Connection) -> None:
        """It may be used again."""
        connection.idle_since = self._clock()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)

    def sweep(self, now: float) -> bool:
        """Close what has been idle too long; whether any connection is left."""
        while self._idle and (self._idle[0].idle_since < now - IDLE_SECONDS or self._idle[0].transport.is_closing()):
            self._idle.popleft().abort()
        return bool(self._open)

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            connection.abort()


class Upstream:
    """The pools, one an engine. Make it and close it in the running event loop."""

    def __init__(self, connect_timeout: float, writes: Writes) -> None:
        self._writes = writes
        self._connect_timeout = connect_timeout
        self._pools: dict[str, Pool] = {}
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def pool(self, url: str) -> Pool:
        """The pool of the engine at `url`."""
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = Pool(url, self._connect_timeout, self._loop.time, self._writes)
        return pool

    def close(self) -> None:
        """Close every connection."""
        self._timer.cancel()
        for pool in self._pools.values():
            pool.close()

    def _sweep(self) -> None:
        now = self._loop.time()
        self._pools = {url: pool for url, pool in self._pools.items() if pool.sweep(now)}
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
