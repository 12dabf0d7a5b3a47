"""Clients that are slow, too many, or write what is hard to read: limits, framing, requests sent ahead."""

import contextlib
import gc
import http.client
import json
import logging
import socket
import threading
import weakref
from contextlib import closing

import pytest

from services.gateway.tests.conftest import Place, is_idle, plane
from services.gateway.tests.dialled import ASK, CHAT, MORE_THAN_BUFFERS_HOLD, STREAM, Dial, event, limited
from tests.support.wire import PATIENCE_SECONDS, Wire

MUCH = {"max_body_bytes": 100_000_000, "max_buffered_bytes": 1_000_000}


# Slow clients


def test_a_client_that_reads_slowly_holds_the_engine_back(place: Place, engine: Wire, dial: Dial) -> None:
    client = dial()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.ask(STREAM)
    exchange = engine.take()
    exchange.read_body()
    exchange.begin_events()
    line = b"data: " + b"x" * 65_536 + b"\n\n"
    sent = 0
    exchange.connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):  # the kernel's buffers are full and the gateway reads no more
        while sent < MORE_THAN_BUFFERS_HOLD:
            exchange.chunk(line)
            sent += len(line)
    assert sent < MORE_THAN_BUFFERS_HOLD
    assert client.status()[0] == 200
    client.close()
    assert exchange.sees_the_end()


@limited(head_timeout=0.3)
@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-a: "])
def test_a_head_that_does_not_come_ends_the_connection(dial: Dial, sent: bytes) -> None:
    client = dial()
    client.send(sent)
    if sent:
        assert client.status()[0] == 408
    assert client.is_closed()


@limited(body_timeout=0.3)
def test_a_body_that_does_not_come_ends_the_connection_though_bytes_trickle_in(place: Place, dial: Dial) -> None:
    client = dial()
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{")
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            try:
                client.send(b" ")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    assert client.is_closed()
    stop.set()
    thread.join()
    place.eventually(lambda: is_idle(place))


@limited(keep_alive_timeout=0.2)
def test_an_idle_connection_is_given_up(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask()
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")
    assert client.is_closed()


# Limits


@limited(max_head_bytes=2000)
@pytest.mark.parametrize("header", [b"x: " + b"a" * 3000, b"x: a\r\n" * 1000 + b"y: b"], ids=["one", "many"])
@pytest.mark.parametrize("path", [CHAT, "/api/v1/jobs/"])
def test_a_head_too_large_is_a_431(dial: Dial, header: bytes, path: str) -> None:
    client = dial()
    client.send(b"POST %b HTTP/1.1\r\nhost: localhost\r\n%b" % (path.encode(), header))
    assert client.status()[0] == 431
    assert client.is_closed()


@limited(max_requests=1)
def test_too_many_requests_at_once_are_a_429_and_the_first_goes_on(engine: Wire, dial: Dial) -> None:
    first, second = dial(), dial()
    first.ask()
    exchange = engine.take()
    exchange.read_body()
    second.ask()
    status, headers = second.status()
    assert (status, headers["retry-after"]) == (429, "2")
    exchange.reply(b"1")
    assert first.answer() == (200, b"1")


@limited(**MUCH)
def test_bodies_of_all_requests_together_have_a_limit(place: Place, dial: Dial) -> None:
    client = dial()
    client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n" + b" " * 2_000_000
    )
    status, body = client.answer()
    assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
    place.eventually(lambda: is_idle(place))


def test_after_a_body_too_large_the_connection_goes_on(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask(b" " * 20_000)
    assert client.answer()[0] == 413
    client.ask()
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")


# HTTP


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 29\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 29",
        "content-length: 29\r\ncontent-length: 30",
        "content-length: 2, 9",
        "content-length: +29",
        "content-length: -1",
        "content-length: 0x1d",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding : chunked",
        "content-length: 29\r\nx: a\r\n b",
        "content-length: 29\nx: a",
        "content-length: 29\r\nx: a\rb: c",
        "content-length: 29\r\nx: a\x00b",
        "content-length: 29\r\n: a",
        "content-length: 29\r\nx y: a",
    ],
)
def test_what_two_servers_might_read_differently_is_refused(engine: Wire, dial: Dial, head: str) -> None:
    client = dial()
    client.send(f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n".encode() + ASK)
    assert client.status()[0] == 400
    assert client.is_closed()
    engine.listener.settimeout(0.05)
    with pytest.raises(TimeoutError):
        engine.take()


def test_no_header_of_a_client_reaches_an_engine(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask(ASK, "x-forwarded-for: 1.2.3.4", "transfer-encoding-x: y", "x-request-id: a b\tc", "te: trailers")
    exchange = engine.take()
    assert set(exchange.headers) == {"host", "content-type", "x-request-id", "content-length"}
    assert exchange.headers["x-request-id"].isalnum()


def test_requests_sent_ahead_are_answered_in_order_whoever_answers_them(engine: Wire, dial: Dial) -> None:
    client = dial()
    get = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    post = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(ASK), ASK)
    client.send(
        post + get + post + b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n{" + get
    )
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")
    assert client.answer() == (200, b'{"status":"ok"}')
    exchange.read_head()
    exchange.read_body()
    exchange.reply(b"2")
    assert client.answer() == (200, b"2")
    assert client.answer()[0] == 400
    assert client.answer() == (200, b'{"status":"ok"}')


def test_a_client_that_waits_to_be_told_is_told_to_go_on_or_is_refused(engine: Wire, dial: Dial) -> None:
    client = dial()
    head = "POST {} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n"
    client.send(head.format(CHAT, len(ASK)).encode())
    assert client.status()[0] == 100
    client.send(ASK)
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")
    client.send(head.format(CHAT, 20_000).encode())
    assert client.status()[0] == 413
    assert client.is_closed()


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask(STREAM, version="1.0")
    exchange = engine.take()
    exchange.read_body()
    exchange.begin_events()
    exchange.chunk(event(1))
    exchange.chunk(b"")
    status, headers = client.status()
    assert (status, headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in headers
    assert client.file.read() == event(1)


def test_a_body_in_chunks_passes_with_its_extensions_and_trailers_taken_off(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.send(f"POST {CHAT}?api-version=1 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    for byte in ASK:
        client.send(b"1;a=b\r\n%c\r\n" % byte)
    client.send(b"0\r\nauthorization: Bearer late\r\n\r\n")
    exchange = engine.take()
    assert exchange.read_body() == ASK
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")


def test_an_offer_of_another_protocol_is_refused_in_words(dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    client = dial()
    client.ask(ASK, "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    status, body = client.answer()
    assert (status, json.loads(body)["error"]["code"]) == (400, "no_upgrade")
    assert client.is_closed()
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_a_connection_that_is_closed_leaves_nothing_that_only_a_look_for_garbage_would_free(
    place: Place, engine: Wire, dial: Dial
) -> None:
    client = dial()
    client.ask()
    exchange = engine.take()
    exchange.read_body()
    (connection,) = [weakref.ref(each) for each in plane(place).clients]
    gc.disable()
    try:
        exchange.reply(b"1")
        assert client.answer() == (200, b"1")
        client.close()
        place.eventually(lambda: connection() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_a_token_route_takes_post_alone(place: Place, method: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", place.http.base_url.port, timeout=PATIENCE_SECONDS)) as client:
        client.request(method, CHAT)
        with client.getresponse() as reply:
            assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["http://x/v1/chat/completions", "/v1/chat%2Fcompletions", "/v1/chat/%63ompletions/"])
def test_a_route_is_known_however_it_is_written(engine: Wire, dial: Dial, path: str) -> None:
    client = dial()
    client.send(f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(ASK)}\r\n\r\n".encode() + ASK)
    exchange = engine.take()
    assert exchange.request_line == "POST /v1/chat/completions HTTP/1.1"
    exchange.read_body()
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")


def test_a_client_that_reads_no_answers_is_read_no_further_and_has_all_once_it_reads(place: Place) -> None:
    request = (
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n[]"  # refused in many words
    )
    with socket.create_connection(("127.0.0.1", place.http.base_url.port or 0), timeout=3) as client:
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < MORE_THAN_BUFFERS_HOLD:
                sent += client.send(request[sent % len(request) :] + request * 1000)
        assert sent < MORE_THAN_BUFFERS_HOLD
        (held,) = [each for each in place.gateway.tokens.clients if each.held]
        assert held.transport.get_write_buffer_size() < MORE_THAN_BUFFERS_HOLD // 64
        status, found, rest = b"HTTP/1.1 400", 0, b""
        while found < sent // len(request):
            rest = rest[-len(status) + 1 :] + client.recv(1 << 20)
            found += rest.count(status)


@limited(idle_timeout=1.0)
def test_a_client_that_reads_no_answers_for_too_long_is_left(place: Place) -> None:
    request = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n[]"
    with socket.create_connection(("127.0.0.1", place.http.base_url.port or 0), timeout=PATIENCE_SECONDS) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # else it times out
            while client.send(request * 1000):
                pass
    place.eventually(lambda: not place.gateway.tokens.clients)
