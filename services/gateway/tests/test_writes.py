"""What is written in one turn of the event loop is sent together, whole and in order."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from hearth_gateway.writes import FEW, MOST_JOINED, MOST_TOGETHER, Writes

from services.gateway.tests.conftest import Place, asking

AT_ONCE = 3 * FEW


class Transport(asyncio.Transport):
    """Notes what is sent."""

    def __init__(self, sent: list[tuple["Transport", bytes]]) -> None:
        super().__init__()
        self.closing = False
        self._sent = sent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sent.append((self, bytes(data)))

    def is_closing(self) -> bool:
        return self.closing


@pytest.fixture
def sent() -> list[tuple[Transport, bytes]]:
    """What was sent, and where to."""
    return []


@pytest.fixture
def turns() -> list[Callable[[], None]]:
    """What the event loop was asked to call when the turn ends."""
    return []


@pytest.fixture
def writes(turns: list[Callable[[], None]]) -> Writes:
    """With enough at work for writes to wait for each other."""
    found = Writes(turns.append)
    found.at_work = FEW + 1
    return found


def test_with_few_requests_each_write_is_sent_at_once(
    writes: Writes, sent: list[tuple[Transport, bytes]], turns: list[Callable[[], None]]
) -> None:
    writes.at_work = FEW
    writes.write(Transport(sent), b"a")
    assert [data for _, data in sent] == [b"a"]
    assert not turns


def test_with_many_they_are_sent_when_the_turn_ends_in_order_and_those_to_one_end_as_one(
    writes: Writes, sent: list[tuple[Transport, bytes]], turns: list[Callable[[], None]]
) -> None:
    one, other = Transport(sent), Transport(sent)
    for transport, data in ((one, b"a"), (one, b"b"), (other, b"c"), (one, b"d")):
        writes.write(transport, data)
    assert not sent
    (end_of_turn,) = turns
    end_of_turn()
    assert sent == [(one, b"ab"), (other, b"c"), (one, b"d")]
    end_of_turn()
    assert len(sent) == 3


def test_what_is_due_goes_before_what_comes_when_only_few_are_left(
    writes: Writes, sent: list[tuple[Transport, bytes]], turns: list[Callable[[], None]]
) -> None:
    one, other = Transport(sent), Transport(sent)
    writes.write(one, b"a")
    writes.at_work = 0
    writes.write(other, b"b")
    writes.write(one, b"c")
    turns[0]()
    assert sent == [(one, b"a"), (other, b"b"), (one, b"c")]


def test_no_more_wait_than_the_other_ends_can_begin_with(
    writes: Writes, sent: list[tuple[Transport, bytes]], turns: list[Callable[[], None]]
) -> None:
    transports = [Transport(sent) for _ in range(MOST_TOGETHER + 1)]
    for each in transports:
        writes.write(each, b"x")
    assert [transport for transport, _ in sent] == transports[:-1]
    turns[-1]()
    assert [transport for transport, _ in sent] == transports


def test_a_large_piece_is_sent_at_once_after_what_goes_before_it(
    writes: Writes, sent: list[tuple[Transport, bytes]], turns: list[Callable[[], None]]
) -> None:
    transport, large = Transport(sent), b"x" * MOST_JOINED
    writes.write(transport, b"head")
    writes.write(transport, large)
    assert [data for _, data in sent] == [b"head", large]


def test_nothing_is_sent_to_an_end_that_has_gone_and_the_others_have_theirs(
    writes: Writes, sent: list[tuple[Transport, bytes]], turns: list[Callable[[], None]]
) -> None:
    gone, there = Transport(sent), Transport(sent)
    writes.write(gone, b"a")
    writes.write(there, b"b")
    gone.closing = True
    turns[0]()
    assert sent == [(there, b"b")]


@pytest.fixture
def echo(place: Place) -> Place:
    """A gateway before an engine that says everything again."""
    place.report(place.serve(), "base")
    return place


def body(number: int, turn: int) -> bytes:
    """No two are alike; some are long."""
    return asking("base", prompt=f"<{number}.{turn}>" * (1 + 200 * (number % 7)))


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_many_clients_at_once_each_get_their_own_answers_whole(connection: str, echo: Place) -> None:
    def ask(number: int) -> None:
        client = HTTPConnection("127.0.0.1", echo.http.base_url.port, timeout=60)
        for turn in range(20):
            client.request("POST", "/v1/completions", body(number, turn), {"connection": connection})
            assert client.getresponse().read() == body(number, turn)
        client.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, range(AT_ONCE)))


def test_many_clients_that_send_ahead_get_answers_of_both_kinds_in_order(echo: Place) -> None:
    def request(data: bytes, *more: str) -> bytes:
        lines = ["POST /v1/completions HTTP/1.1", "host: localhost", f"content-length: {len(data)}", *more, "", ""]
        return "\r\n".join(lines).encode() + data

    def ask(number: int) -> None:
        first, last = body(number, 1), body(number, 2)
        page = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"  # ASGI's; it writes to the same connection
        with socket.create_connection(("127.0.0.1", echo.http.base_url.port or 0), timeout=60) as client:
            client.sendall(request(first) + page + request(last, "connection: close"))
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        begins = [answer.find(each) for each in (first, b'"object": "list"', last)]
        assert -1 not in begins and begins == sorted(begins)
        assert answer.count(b"HTTP/1.1 200 OK") == 3 and answer.endswith(b"\r\n0\r\n\r\n")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, range(AT_ONCE)))
