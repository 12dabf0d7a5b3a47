"""The token plane in trouble: clients and engines that are slow, leave, break the rules, or are too many."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hearth_access.usage_store import UsageStore
from hearth_contracts.base import now
from hearth_gateway.tokens import TokenPlane

from services.gateway.tests.conftest import Place
from tests.support.wire import PATIENCE_SECONDS, Wire, wire

CHAT = "/v1/chat/completions"
ASK = b'{"model":"LLM","messages":[]}'
STREAM = b'{"model":"LLM","messages":[],"stream":true}'
MORE_THAN_BUFFERS_HOLD = 64_000_000
MUCH = {"max_body_bytes": 100_000_000, "max_buffered_bytes": 1_000_000}


def limited(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("limits", [settings], indirect=True, ids=[""])


def event(number: int, tokens: int | None = None) -> bytes:
    chunk: dict[str, Any] = {"n": number, "choices": [{"index": 0}]}
    if tokens is not None:
        chunk["usage"] = {"prompt_tokens": 5, "total_tokens": 5 + tokens, "completion_tokens": tokens}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


@pytest.fixture
def engine(place: Place) -> Iterator[Wire]:
    """An engine that serves LLM, played by the test."""
    with wire() as far:
        place.report(far, "LLM")  # type: ignore[arg-type]
        yield far


class Client:
    """A connection to the gateway on which any bytes can be sent."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, body: bytes = ASK, *headers: str, version: str = "1.1") -> None:
        lines = [f"POST {CHAT} HTTP/{version}", "host: localhost", f"content-length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def status(self) -> tuple[int, dict[str, str]]:
        """The next answer's status and headers."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, value = line.split(": ", 1)
            headers[name] = value
        return status, headers

    def answer(self) -> tuple[int, bytes]:
        """The next answer, its body of a known length."""
        status, headers = self.status()
        return status, self.file.read(int(headers["content-length"]))

    def is_closed(self) -> bool:
        """Whether the gateway ends the connection, within PATIENCE_SECONDS."""
        try:
            while self.file.read1():
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def dial(place: Place) -> Iterator[Callable[[], Client]]:
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


Dial = Callable[[], Client]


def plane(place: Place) -> TokenPlane:
    return place.gateway.tokens


def used(place: Place) -> list[int]:
    """Requests, prompt and completion tokens that Redis has counted."""
    rows = UsageStore(place.redis).read(now().date(), now().date())
    return [
        sum(counts) for counts in zip(*((r.requests, r.prompt_tokens, r.completion_tokens) for r in rows), strict=True)
    ]


def is_idle(place: Place) -> bool:
    return not plane(place)._active and not plane(place)._held and not place.gateway.router._outstanding


# Clients that leave


@pytest.mark.parametrize("when", ["at work", "in mid-stream", "while connecting"])
def test_a_client_that_leaves_ends_the_engines_work_within_100_ms(
    place: Place, engine: Wire, dial: Dial, when: str
) -> None:
    client = dial()
    client.ask(STREAM if when == "in mid-stream" else ASK)
    if when == "while connecting":
        client.close()
        place.eventually(lambda: is_idle(place))
        return
    exchange = engine.take()
    exchange.read_body()
    if when == "in mid-stream":
        exchange.begin_events()
        exchange.chunk(event(1))
        client.status()
    client.close()
    began = time.monotonic()
    assert exchange.sees_the_end()
    assert time.monotonic() - began < 0.1
    place.eventually(lambda: is_idle(place))


def test_of_a_stream_whose_client_left_the_tokens_are_counted(place: Place, engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask(STREAM)
    exchange = engine.take()
    assert json.loads(exchange.read_body())["stream_options"]["continuous_usage_stats"] is True
    exchange.begin_events()
    exchange.chunk(event(1, 1) + event(2, 2))
    _, headers = client.status()
    assert headers["transfer-encoding"] == "chunked"
    assert client.file.readline() and client.file.readline() == event(1).replace(b"\n\n", b"\n")
    client.close()
    assert exchange.sees_the_end()
    place.eventually(lambda: used(place) == [1, 5, 2])


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


# Engines in trouble


@limited(first_byte_timeout=0.2)
def test_an_engine_that_does_not_begin_is_a_504(place: Place, engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask()
    exchange = engine.take()
    exchange.read_body()
    status, body = client.answer()
    assert (status, json.loads(body)["error"]["code"]) == (504, "engine_failed")
    assert exchange.sees_the_end()
    place.eventually(lambda: is_idle(place))


@limited(idle_timeout=0.2)
def test_an_engine_that_falls_silent_in_a_stream_is_an_event(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask(STREAM, "connection: close")
    exchange = engine.take()
    exchange.read_body()
    exchange.begin_events()
    exchange.chunk(event(1))
    rest = client.file.read()
    assert b"took too long" in rest and rest.endswith(b"0\r\n\r\n")
    assert exchange.sees_the_end()


def test_before_the_first_byte_another_engine_is_asked_then_none(place: Place, engine: Wire, dial: Dial) -> None:
    with wire() as other:
        place.report(other, "LLM")  # type: ignore[arg-type]
        by_url = {each.url: each for each in (engine, other)}
        first, second = (by_url[url] for url in place.gateway.router.table.ready["LLM"].urls)
        client = dial()
        client.ask(STREAM)
        exchange = first.take()
        exchange.read_body()
        exchange.die()
        again = second.take()
        assert json.loads(again.read_body())["messages"] == []
        again.begin_events()
        again.chunk(event(1))
        assert client.status()[0] == 200
        again.die()
        first.listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            first.take()


def test_an_engine_that_dies_between_an_answers_head_and_its_first_event_costs_no_request(
    place: Place, engine: Wire, dial: Dial
) -> None:
    with wire() as other:
        place.report(other, "LLM")  # type: ignore[arg-type]
        by_url = {each.url: each for each in (engine, other)}
        first, second = (by_url[url] for url in place.gateway.router.table.ready["LLM"].urls)
        client = dial()
        client.ask(STREAM)
        exchange = first.take()
        exchange.read_body()
        exchange.begin_events()
        place.eventually(lambda: any(each._status == 200 for each in place.gateway.tokens._active))
        exchange.die()
        again = second.take()
        assert json.loads(again.read_body())["messages"] == []
        again.begin_events()
        again.chunk(event(1))
        assert client.status()[0] == 200
        assert place.gateway.router.choices(place.gateway.router.table.ready["LLM"])[0] == second.url


def test_an_engine_that_is_being_killed_and_says_500_costs_no_request(place: Place, engine: Wire, dial: Dial) -> None:
    with wire() as other:
        place.report(other, "LLM")  # type: ignore[arg-type]
        by_url = {each.url: each for each in (engine, other)}
        first, second = (by_url[url] for url in place.gateway.router.table.ready["LLM"].urls)
        client = dial()
        client.ask()
        failed = b'{"error": {"message": "cannot schedule new futures after shutdown", "code": 500}}'
        exchange = first.take()
        exchange.read_body()
        exchange.reply(failed, status=500)
        again = second.take()
        again.read_body()
        again.reply(b"well")
        assert client.answer() == (200, b"well")


def test_a_kept_connection_that_the_engine_had_closed_costs_no_request(engine: Wire, dial: Dial) -> None:
    client = dial()
    client.ask()
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.answer() == (200, b"1")
    client.ask()
    exchange.read_head()  # it has come over the kept connection, which ends at this very moment
    exchange.die()
    again = engine.take()
    again.read_body()
    again.reply(b"2")
    assert client.answer() == (200, b"2")


@limited(affinity_bytes=200)
def test_prompts_that_begin_alike_go_to_one_engine_until_it_has_too_much(place: Place, engine: Wire) -> None:
    with wire() as other:
        place.report(other, "LLM")  # type: ignore[arg-type]
        router = place.gateway.router
        route = router.table.ready["LLM"]
        bound = {prefix: router.choices(route, prefix)[0] for prefix in (b"%d" % number for number in range(64))}
        assert set(bound.values()) == set(route.urls)
        assert all(router.choices(route, prefix)[0] == url for prefix, url in bound.items())
        busy = bound[b"0"]
        for _ in range(10):
            router.begin(busy)
        assert router.choices(route, b"0")[0] != busy


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


def test_an_offer_of_another_protocol_is_refused_in_words(dial: Dial) -> None:
    client = dial()
    client.ask(ASK, "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    status, body = client.answer()
    assert (status, json.loads(body)["error"]["code"]) == (400, "no_upgrade")
    assert client.is_closed()


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
