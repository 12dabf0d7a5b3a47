"""One POST to a token route: from its head to the last byte of its answer, or to the client's leaving.

Callbacks, not coroutines: with thousands of streams what is done for each event decides, and a task and its wake-ups
cost more than all the rest. The client's connection (`protocol`) and the engine's (`upstream`) call; `finish` runs
exactly once, whatever happens.
"""

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final

from hearth_gateway import measures, traced
from hearth_gateway.asked import Asked, Usage, ask_for_usage, read_asked
from hearth_gateway.door import Caller, Slot, Visitor
from hearth_gateway.heads import Head
from hearth_gateway.replies import Refused, Waking, error_body, openai_error, too_large
from hearth_gateway.upstream import Connection, Headers, Pool, Refusal
from hearth_gateway.usage import ReplyUsage, StreamUsage, tokens

if TYPE_CHECKING:
    from hearth_gateway.protocol import TokenProtocol
    from hearth_gateway.tokens import TokenPlane

log = logging.getLogger(__name__)

PASSED_BACK: Final = frozenset({b"content-type", b"content-length", b"content-encoding", b"retry-after"})
EVENT_STREAM: Final = b"text/event-stream"
STREAM_HEADERS: Final = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
CLIENT_LEFT: Final = 499
MOST_TRIES_AFTER_SENDING: Final = 2
LONGEST_ERROR: Final = 1 << 20
"""An engine's error that is longer passes as it is."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_asked", "_began", "_body", "_caller", "_chunked", "_client", "_connecting", "_engine", "_error", "_events",
        "_first_at", "_head", "_is_read", "_is_turn", "_kept", "_last_at", "_model", "_over", "_paused", "_plane",
        "_refused", "_request", "_sent_at", "_size", "_slot", "_span", "_started", "_status", "_tries", "_url",
        "_urls", "_usage", "_waits_until",
    )  # fmt: skip

    def __init__(self, plane: "TokenPlane", client: "TokenProtocol", visitor: Visitor, head: Head) -> None:
        self._plane = plane
        self._client = client
        self._head = head
        self._body: list[bytes] = []
        self._size = 0
        self._is_read = False  # the request has come whole
        self._is_turn = False  # all earlier requests of the connection are answered
        self._over = False
        self._paused = False
        self._caller: Caller | None = None
        self._slot: Slot | None = None
        self._asked: Asked | None = None
        self._model = ""
        self._request: tuple[bytes, bytes] | None = None  # what the engine is sent, until the client has a first byte
        self._urls: list[str] = []
        self._url: str | None = None  # the engine that is at work
        self._tries = 0
        self._engine: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._status = 0  # what the engine said
        self._kept: Headers = []  # its headers that pass
        self._chunked = False
        self._started = False  # the client has had the first byte
        self._events: StreamUsage | None = None
        self._usage: ReplyUsage | None = None
        self._error: bytes | None = None  # the engine's, until it is whole
        self._began = plane.now()
        self._span = traced.begin(head, client.scheme or "http")
        self._first_at = 0.0
        self._sent_at = 0.0  # when the engine that answers was asked
        self._last_at = math.inf  # when the engine was last asked or heard
        self._waits_until: float | None = None  # for an engine that is being started
        self._refused: Refused | None = None
        try:
            plane.enter(self)
            if plane.door.open:
                plane.pages.check(head.origin, head.host)
            self._caller = visitor.admit(head.authorization)
            if head.wants_upgrade:
                raise Refused(400, "this is plain HTTP/1.1: send no Upgrade header", code="no_upgrade")
            if head.length is not None and head.length > plane.max_body_bytes:
                raise too_large(plane.max_body_bytes)
        except Refused as refused:
            self._refused = refused

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may be used again afterwards."""
        return self._head.keep_alive

    @property
    def has_begun(self) -> bool:
        """Whether the client has had a part of the answer."""
        return self._started

    # What the client's connection tells

    def start(self) -> None:
        """Its turn to be answered."""
        self._is_turn = True
        if self._refused is not None:
            self._refuse(self._refused)
        elif self._is_read:
            self._forward()
        elif self._head.wants_continue:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        """A piece of the request's body."""
        if self._over or self._refused is not None:
            return
        if self._size + len(piece) > self._plane.max_body_bytes:
            self._refused = too_large(self._plane.max_body_bytes)
        elif not self._plane.hold(len(piece)):
            self._refused = Refused(503, "too much is being sent right now; try again", code="overloaded", retry=True)
        else:
            self._body.append(piece)
            self._size += len(piece)
            return
        self._body = []
        if self._is_turn:
            self._refuse(self._refused)

    def on_body_end(self) -> None:
        """The request is whole."""
        self._is_read = True
        if self._is_turn and not self._over:
            self._forward()

    def pause(self) -> None:
        """The client does not keep up: hold the engine back."""
        self._paused = True
        if self._engine is not None:
            self._engine.pause()

    def resume(self) -> None:
        """It has caught up."""
        self._paused = False
        if self._engine is not None:
            self._engine.resume()

    def client_left(self) -> None:
        """Nobody waits any more: end the engine's work."""
        if not self._over:
            self._end_work()
            if self._is_turn:
                measures.aborted(self._head.route, self._model, self._started)
            self._finish(CLIENT_LEFT)

    # Towards the engine

    def _forward(self) -> None:
        plane, head, caller = self._plane, self._head, self._caller
        assert caller is not None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        try:
            asked = read_asked(body)
            streams = asked.stream is True
            waking = None
            try:
                self._urls = plane.find(head.route, asked)
            except Waking as found:
                waking = found
            self._slot = caller.begin(asked.model, stream=streams)
            if waking is not None:
                self._waits_until = plane.let_wait(waking)
        except Refused as refused:
            self._refuse(refused)
            return
        self._model = asked.model
        self._asked = asked
        if streams and plane.tells_usage(head.route):
            body = ask_for_usage(body, asked)
        self._request = (
            b"content-type: application/json\r\nx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n"
            % (head.request_id, traced.headers(self._span), len(body)),
            body,
        )
        if self._waits_until is None:
            self._try_next()

    def _look_again(self, now: float) -> None:
        """Go on when there is an engine by now; refuse when there will be none, or not in time."""
        assert self._asked is not None and self._waits_until is not None
        try:
            self._urls = self._plane.find(self._head.route, self._asked)
        except Waking as waking:
            self._plane.router.asked.add(waking.deployment)
            if now > self._waits_until:
                self._refuse(waking)
            return
        except Refused as refused:
            self._refuse(refused)
            return
        self._end_waiting()
        self._try_next()

    def _end_waiting(self) -> None:
        if self._waits_until is not None:
            self._waits_until = None
            self._plane.waits_no_more()

    def _try_next(self) -> None:
        if not self._urls:
            self._refuse(
                Refused(503, "no engine takes requests right now; try again", code="engine_unavailable", retry=True)
            )
            return
        self._ask(self._urls.pop(0), fresh=self._tries > 0)

    def _ask(self, url: str, *, fresh: bool) -> None:
        self._url = url
        self._plane.router.begin(url)
        pool = self._plane.upstream.pool(url)
        connection = None if fresh else pool.take()
        if connection is not None:
            self._send(pool, connection)
        else:
            self._connecting = asyncio.ensure_future(self._connect(url, pool))

    async def _connect(self, url: str, pool: Pool) -> None:
        try:
            connection = await pool.connect()
        except Refusal as refusal:
            log.warning("engine %s refuses connections: %s", url, refusal)
            measures.UPSTREAM_ERRORS.labels("refused").inc()
            self._plane.router.shun(url)
            self._connecting = None
            self._leave_engine()
            self._try_next()
        else:
            self._connecting = None
            self._send(pool, connection)

    def _send(self, pool: Pool, connection: Connection) -> None:
        assert self._request is not None
        self._engine = connection
        self._sent_at = self._last_at = self._plane.now()
        rest, body = self._request
        path = self._head.route.encode()
        connection.send(b"POST /v1/%b HTTP/1.1\r\nhost: %b\r\n%b" % (path, pool.authority, rest), body, self)

    def _leave_engine(self) -> None:
        self._engine = None
        if self._url is not None:
            self._plane.router.end(self._url)
            self._url = None

    def _end_work(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._engine is not None:
            self._engine.abort()
        self._leave_engine()

    # What the engine's connection tells

    def on_head(self, status: int, headers: Headers) -> None:
        """The head of the answer; the client has it together with the first byte of the body."""
        self._status = status
        self._kept = [each for each in headers if each[0] in PASSED_BACK]
        found = dict(self._kept)
        self._chunked = b"content-length" not in found and status not in (204, 304)
        if found.get(b"content-type", b"").startswith(EVENT_STREAM):
            assert self._asked is not None
            self._events = StreamUsage(self._asked)
            self._kept += STREAM_HEADERS
        else:
            self._usage = ReplyUsage()
            self._error = b"" if status >= 400 else None

    def on_data(self, data: bytes) -> None:
        """Some of its body."""
        self._last_at = self._plane.now()
        if self._events is not None:
            data = self._events.feed(data)
        elif self._usage is not None:
            self._usage.feed(data)
        if self._error is not None:
            self._error += data
            if len(self._error) <= LONGEST_ERROR:
                return
            data, self._error = self._error, None
        if data:
            self._pass_on(data)

    def _write(self, data: bytes) -> None:
        self._plane.writes.write(self._client.transport, data)

    def _pass_on(self, data: bytes) -> None:
        if self._chunked and self._head.may_chunk:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if not self._started:
            data = self._start_answer() + data  # one write, not two: that is what a small answer costs most
        self._write(data)

    def _pass_on_error(self, told: bytes) -> None:
        body = openai_error(self._status, told)
        if body is not told:
            self._kept = [each for each in self._kept if each[0] not in (b"content-type", b"content-length")]
            self._kept += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            self._chunked = False
        self._pass_on(body)

    def _start_answer(self) -> bytes:
        self._started = True
        self._request = None
        self._first_at = self._last_at
        if self._events is not None:
            self._plane.router.first_token(self._model, self._first_at - self._sent_at)
        headers = self._kept + self._plane.pages.headers(self._head.origin)
        if self._chunked:
            if self._head.may_chunk:
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self._client.keep_alive = False  # HTTP/1.0: the connection's end is the body's
        lines = self._slot.lines if self._slot is not None else b""
        return self._client.head(self._status, self._head.request_id, headers, lines)

    def on_end(self) -> None:
        """The answer is whole."""
        if self._error is not None and self._status >= 500 and self._may_ask_another():
            # One that is being stopped or killed says so: another engine may be well.
            log.warning("engine at %s failed with %d; another is asked", self._url, self._status)
            measures.UPSTREAM_ERRORS.labels("failed").inc()
            self._ask_another()
            return
        if self._events is not None and (rest := self._events.rest()):
            self._pass_on(rest)
        if self._error:
            self._pass_on_error(self._error)
        if not self._started:
            self._write(self._start_answer())
        self._end_answer()

    def _end_answer(self) -> None:
        if self._chunked and self._head.may_chunk:
            self._write(b"0\r\n\r\n")
        self._leave_engine()
        self._finish(self._status)
        self._client.answered(self)

    def on_broken(self, reason: str) -> None:
        """The engine's connection ended before its answer did."""
        engine, url = self._engine, self._url
        assert engine is not None and url is not None
        log.warning("engine at %s broke off request %s: %s", url, self._head.request_id.decode(), reason)
        measures.UPSTREAM_ERRORS.labels("broke_off").inc()
        if engine.is_reused and not self._urls:
            self._urls = [url]  # the kept connection may just have been closed
        if self._may_ask_another():
            self._ask_another()
        else:
            self._leave_engine()
            self._break_off(502, "broke off")

    def _may_ask_another(self) -> bool:
        """Whether the request may be sent once more: the client has no byte yet."""
        return self._request is not None and self._tries + 1 < MOST_TRIES_AFTER_SENDING and bool(self._urls)

    def _ask_another(self) -> None:
        if self._url not in self._urls and self._url is not None:
            self._plane.router.shun(self._url)
        self._leave_engine()
        self._tries += 1
        self._events = self._usage = self._error = None
        self._ask(self._urls.pop(0), fresh=True)

    def _break_off(self, status: int, what: str) -> None:
        if not self._started:
            self._refuse(Refused(status, f"the engine {what} before it answered", code="engine_failed"))
        elif self._events is not None:
            event = error_body(status, f"the engine {what} in the middle of its answer", code="engine_failed")
            self._pass_on(b"data: " + event + b"\n\n")
            self._status = status
            self._end_answer()
        else:  # its length was promised: only a cut connection tells the client that it is short
            self._finish(status)
            self._client.cut()

    # The end

    def check(self, now: float) -> None:
        """Called twice a second: end it if nothing has moved for too long."""
        if self._waits_until is not None and not self._over:
            self._look_again(now)
            return
        if self._engine is None or self._over:
            return
        settings = self._plane.settings
        if now - self._last_at <= (settings.idle_timeout if self._started else settings.first_byte_timeout):
            return
        if self._paused:
            self.client_left()
            self._client.cut()
            return
        measures.UPSTREAM_ERRORS.labels("timed_out").inc()
        self._end_work()
        self._break_off(504, "took too long")

    def shut(self) -> None:
        """The gateway ends, and its patience is over."""
        if not self._over and not self._is_turn:
            self.client_left()  # what comes before it on its connection is not answered, nor is it
        elif not self._over:
            self._end_work()
            self._break_off(503, "had to be left: the gateway is shutting down")

    def _refuse(self, refused: Refused) -> None:
        self._end_work()
        if self._head.wants_continue and not self._is_read:
            self._client.keep_alive = False  # whether the body comes after all, nobody can tell
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(refused.body))]
        headers += [*refused.headers, *self._plane.pages.headers(self._head.origin)]
        head = self._client.head(refused.status, self._head.request_id, headers, refused.lines)
        self._write(head + refused.body)
        measures.REFUSALS.labels(refused.code or str(refused.status)).inc()
        self._finish(refused.status)
        self._client.answered(self)

    def _finish(self, status: int) -> None:
        assert not self._over
        self._over = True
        self._end_waiting()
        self._body = []
        self._request = None
        self._plane.leave(self, self._size)
        route = self._head.route
        used = Usage()
        if self._events is not None:
            used = self._events.used()
        elif self._usage is not None:
            used = self._usage.used()
        if self._slot is not None:
            counts = tokens(used, embeds=self._plane.embeds(route))
            self._slot.end(**counts)
            measures.used(self._model, counts)
        now = self._plane.now()
        measures.ended(route, self._model, status, now - self._began)
        if self._events is not None and self._started:
            first, rest = self._first_at - self._began, self._last_at - self._first_at
            measures.streamed(self._model, first, rest, self._events.events)
        if self._span is not None:
            first_after = self._first_at - self._began if self._events is not None and self._started else None
            traced.end(self._span, status, self._caller, self._model, used, first_after)
