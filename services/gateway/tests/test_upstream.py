"""An engine's connection: whatever way the bytes are cut, an answer is passed on whole or said to be broken."""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Iterator

import pytest
import uvloop
from hearth_gateway.upstream import IDLE_SECONDS, MAX_HEAD_BYTES, Connection, Headers, Pool, Refusal
from hearth_gateway.writes import Writes
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hosts import hosts, needs_hosts
from tests.support.servers import free_port


class Transport(asyncio.Transport):
    """A stand-in: a real socket does not let a test choose how the bytes are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.sent += data

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


class Got:
    """Who waits for the answer; notes what is said."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.ends: list[str] = []

    def on_head(self, status: int, headers: Headers) -> None:
        assert not self.status
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        assert self.status and data and not self.ends
        self.body += data

    def on_end(self) -> None:
        self.ends.append("whole")

    def on_broken(self, reason: str) -> None:
        self.ends.append(reason)


def opened() -> tuple[Connection, Transport, Pool]:
    pool = Pool("http://127.0.0.1:1", 1.0, time.monotonic, Writes(lambda flush: None))
    connection, transport = Connection(pool), Transport()
    connection.connection_made(transport)
    return connection, transport, pool


def ask(connection: Connection) -> Got:
    got = Got()
    connection.send(b"POST / HTTP/1.1\r\n\r\n", b"{}", got)
    return got


def feed(connection: Connection, data: bytes, cuts: list[int]) -> None:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(ends):
        connection.data_received(data[begin:end])


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """The body in chunks, with extensions and trailers as RFC 9112 has them."""
    framed, rest = b"", body
    while rest:
        size = draw(st.integers(1, len(rest)))
        digits = b"%x" % size
        if draw(st.booleans()):
            digits = digits.upper().rjust(draw(st.integers(1, 6)), b"0")
        extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b c"']))
        framed += digits + extension + b"\r\n" + rest[:size] + b"\r\n"
        rest = rest[size:]
    trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc: d\r\n"]))
    return framed + b"0\r\n" + trailers + b"\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, bytes, bytes]:
    """A status, a body, and the bytes of the answer."""
    status = draw(st.sampled_from([200, 400, 429, 500, 503]))
    body = draw(st.binary(max_size=300))
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"])
    )
    head = b"HTTP/1.1 %d Some Words\r\nContent-Type: text/plain\r\n" % status
    if draw(st.booleans()):
        return status, body, interim + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return status, body, interim + head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunked(body))


@given(st.lists(answers(), min_size=1, max_size=3), st.lists(st.integers(0, 5000), max_size=30))
def test_answers_pass_whole_however_they_are_cut_and_the_connection_is_kept(
    given_answers: list[tuple[int, bytes, bytes]], cuts: list[int]
) -> None:
    connection, transport, pool = opened()
    for status, body, wire in given_answers:
        got = ask(connection)
        feed(connection, wire, cuts)
        assert (got.status, got.body, got.ends) == (status, body, ["whole"])
        assert dict(got.headers)[b"content-type"] == b"text/plain"
        assert b"x-sum" not in dict(got.headers)
        assert not transport.is_closed
        assert pool.take() is connection


@given(answers(), st.integers(0, 5000), st.lists(st.integers(0, 5000), max_size=10))
def test_an_answer_that_is_cut_off_is_broken_and_never_whole(
    answer: tuple[int, bytes, bytes], at: int, cuts: list[int]
) -> None:
    connection, _, pool = opened()
    got = ask(connection)
    _, body, wire = answer
    part = wire[: at % len(wire)]
    feed(connection, part, cuts)
    connection.connection_lost(None)
    assert len(got.ends) == 1 and got.ends != ["whole"]
    assert body.startswith(got.body)
    assert pool.take() is None


@given(answers(), st.binary(min_size=1, max_size=50), st.lists(st.integers(0, 5000), max_size=10))
def test_bytes_that_nobody_asked_for_end_the_connection_but_not_the_answer_before_them(
    answer: tuple[int, bytes, bytes], more: bytes, cuts: list[int]
) -> None:
    connection, transport, pool = opened()
    got = ask(connection)
    status, body, wire = answer
    feed(connection, wire, cuts)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" + more)
    assert (got.status, got.body, got.ends) == (status, body, ["whole"])
    assert transport.is_closed
    assert pool.take() is None


def test_two_answers_to_one_request_in_one_read_are_one_answer() -> None:
    connection, transport, pool = opened()
    got = ask(connection)
    connection.data_received(
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb"
    )
    assert (got.body, got.ends) == (b"a", ["whole"])
    assert transport.is_closed
    assert pool.take() is None


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\na\n0\n\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\na",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * (MAX_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * MAX_HEAD_BYTES,
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_what_is_not_http_to_the_letter_is_broken(wire: bytes, cut: int) -> None:
    connection, transport, pool = opened()
    got = ask(connection)
    for at in range(0, min(len(wire), 200_000), cut if len(wire) < 1000 else 10_000):
        connection.data_received(wire[at : at + (cut if len(wire) < 1000 else 10_000)])
        if transport.is_closed:
            break
    else:
        connection.connection_lost(None)  # some are only short of their end
    assert len(got.ends) == 1 and got.ends != ["whole"]
    assert transport.is_closed
    assert pool.take() is None


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    connection, _, pool = opened()
    got = ask(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert got.ends == []
    connection.data_received(b"def")
    connection.eof_received()
    connection.connection_lost(None)
    assert (got.body, got.ends) == (b"abcdef", ["whole"])
    assert pool.take() is None


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_that_the_engine_will_close_is_not_kept(head: bytes) -> None:
    connection, transport, pool = opened()
    got = ask(connection)
    connection.data_received(head + b"content-length: 1\r\n\r\na")
    assert got.ends == ["whole"]
    assert transport.is_closed
    assert pool.take() is None


def test_after_an_abort_nothing_is_said_any_more() -> None:
    connection, transport, _ = opened()
    got = ask(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na")
    connection.abort()
    connection.connection_lost(None)
    assert got.ends == []
    assert transport.is_closed


@pytest.fixture
def server() -> Iterator[int]:
    """A port where connections are taken and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_pool_gives_the_newest_connection_and_closes_old_ones(server: int) -> None:
    pool = Pool(f"http://127.0.0.1:{server}", 1.0, asyncio.get_running_loop().time, Writes(lambda flush: None))
    first, second = await pool.connect(), await pool.connect()
    for each in (first, second):
        pool.put_back(each)
    assert pool.take() is second
    now = asyncio.get_running_loop().time()
    assert pool.sweep(now)  # neither is old
    pool.put_back(second)
    pool.sweep(now + IDLE_SECONDS + 1)
    assert pool.take() is None
    assert first.transport.is_closing() and second.transport.is_closing()
    await asyncio.sleep(0)  # for the transports to let go of their sockets


async def test_a_port_nobody_listens_on_is_a_refusal() -> None:
    with pytest.raises(Refusal):
        await Pool(f"http://127.0.0.1:{free_port()}", 1.0, time.monotonic, Writes(lambda flush: None)).connect()


@needs_hosts
async def test_a_host_that_is_gone_without_a_word_breaks_off_whether_it_had_the_request_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hearth_gateway.upstream.LOST_SECONDS", 3)
    with hosts("gateway", "engine") as (here, there), there.inside(), socket.create_server((there.ip, 0)) as listener:
        url = f"http://{there.ip}:{listener.getsockname()[1]}"
        pool = Pool(url, 1.0, asyncio.get_running_loop().time, Writes(lambda flush: None))
        with here.inside():
            connections = [await pool.connect() for _ in range(2)]
        had = ask(connections[0])
        taken = listener.accept()[0]
        assert taken.recv(100)
        await asyncio.sleep(3.5)  # as long as it is there, it may think
        assert had.ends == []
        there.plug(into=False)
        had_not = ask(connections[1])
        async with asyncio.timeout(10):
            while not (had.ends and had_not.ends):
                await asyncio.sleep(0.05)
        taken.close()
    assert "timed out" in had.ends[0]


async def _options(sent: bytes) -> list[tuple[int, int, int, int]]:
    """How a connection's socket is set: while it is idle, at work with this body, and idle again."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(sent))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        over.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = Pool(url, 1.0, loop.time, Writes(loop.call_soon))
        connection = await pool.connect()
        wire = connection.transport.get_extra_info("socket")

        def options() -> tuple[int, int, int, int]:
            names = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
            told = [wire.getsockopt(socket.IPPROTO_TCP, name) for name in names]
            return (told[0], told[1], told[2], wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

        found = [options()]
        sink = Got()
        connection.send(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n", sent, sink)
        found.append(options())
        while not sink.ends:
            await asyncio.sleep(0.01)
        found.append(options())
        pool.close()
        await over.wait()
        return found


@pytest.mark.parametrize(("size", "at_work"), [(10, 15_000), (200_000, 30_000)])
def test_on_the_gateways_own_loop_a_silent_host_is_given_15_s_and_with_a_large_body_30(size: int, at_work: int) -> None:
    found = uvloop.run(_options(b"x" * size))
    assert found == [(15_000, 5, 5, 1), (at_work, 5, 5, 1), (15_000, 5, 5, 1)]
