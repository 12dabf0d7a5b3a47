"""The token plane at exact moments: which bytes have passed by then, and who learns of what."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_gateway import routes
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.routes import RouteWatcher
from hearth_gateway.routing import Router
from hearth_jobs import keys
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.store import JobStore
from redis import Redis

from services.gateway.tests.conftest import Place, serving
from tests.support.servers import free_port, running, valkey
from tests.support.wire import PATIENCE_SECONDS, Wire, wire

CHAT = "/v1/chat/completions"
# Spaces, an escape and a number that no JSON library would write back like this: bytes, not values, must pass.
ASK = b'{ "model":"LLM",  "temperature": 1.50e0, "messages": [{"role":"user","content":"\\u0416"}]}'
STREAM = b'{"model": "LLM", "messages": [], "stream": true}'
HALF = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"


@pytest.fixture
def client(place: Place) -> Iterator[http.client.HTTPConnection]:
    """A client that can send a request without waiting for its answer."""
    port = place.http.base_url.port
    assert port is not None
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        yield connection


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_only_what_belongs_to_the_answer_passes(client: http.client.HTTPConnection, engine: Wire) -> None:
    client.request("POST", CHAT, ASK, {"authorization": "Bearer secret", "cookie": "a=b"})
    exchange = engine.take()
    assert exchange.read_body() == ASK
    assert not {"authorization", "cookie", "accept-encoding"} & set(exchange.headers)
    answer = b'{"choices":[ ], "x": 1.0e2}\n\x00\xff'
    exchange.reply(answer, "server: engine", "x-inner: 1")
    with client.getresponse() as reply:
        assert (reply.status, reply.read()) == (200, answer)
        assert reply.headers["content-length"] == str(len(answer))
        assert reply.headers["x-inner"] is None


def test_an_engines_own_error_passes_unchanged(client: http.client.HTTPConnection, engine: Wire) -> None:
    client.request("POST", CHAT, ASK)
    engine.take().reply(b'{"error": {"message": "too long"}}', "retry-after: 7", status="429 Too Many Requests")
    with client.getresponse() as reply:
        assert (reply.status, reply.headers["retry-after"]) == (429, "7")
        assert reply.read() == b'{"error": {"message": "too long"}}'


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (b'{"detail": "not that"}', "not that"),
        (b'{"error": {"message": "nor that", "type": null, "param": null, "code": 422}}', "nor that"),
        (
            b'{"detail": [{"loc": ["body", "input"], "msg": "a string, please", "input": 1}, {"loc": [], "msg": "b"}]}',
            "body.input: a string, please; : b",
        ),
    ],
)
def test_an_engines_error_that_openais_clients_cannot_read_becomes_openais_object(
    client: http.client.HTTPConnection, engine: Wire, told: bytes, message: str
) -> None:
    client.request("POST", CHAT, ASK)
    engine.take().reply(told, status="422 Unprocessable Content")
    with client.getresponse() as reply:
        assert reply.status == 422
        assert error_of(reply.read())["message"] == message


@pytest.mark.parametrize("told", [b"", b"detail", b'{"detail": {"a": 1}}', b'["detail"]'])
def test_an_error_in_no_known_form_passes_unchanged(
    client: http.client.HTTPConnection, engine: Wire, told: bytes
) -> None:
    client.request("POST", CHAT, ASK)
    engine.take().reply(told, status="500 Internal Server Error")
    with client.getresponse() as reply:
        assert (reply.status, reply.read()) == (500, told)


def test_an_event_passes_as_soon_as_it_is_whole(client: http.client.HTTPConnection, engine: Wire) -> None:
    client.request("POST", CHAT, STREAM)
    exchange = engine.take()
    exchange.begin_events()
    exchange.chunk(b'data: {"n": 1}\n\n')
    with client.getresponse() as reply:
        assert reply.read1() == b'data: {"n": 1}\n\n'  # while the engine has not sent the second
        exchange.chunk(
            b"data: {"
        )  # half an event waits: its other half may tell the usage, which is not for the client
        exchange.chunk(b'"n": 2}\n\ndata: [DONE]\n\n')
        exchange.chunk(b"")
        assert reply.read() == b'data: {"n": 2}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("sent", [b'data: {"n": 1}\n\n', b'data: {"n": 1}\n\ndata: {"n'], ids=["whole", "half"])
def test_an_engine_that_dies_in_mid_stream_is_an_event_of_its_own_even_after_half_an_event(
    client: http.client.HTTPConnection, engine: Wire, sent: bytes
) -> None:
    client.request("POST", CHAT, STREAM)
    exchange = engine.take()
    exchange.begin_events()
    exchange.chunk(sent)
    with client.getresponse() as reply:
        got = reply.read(len(b'data: {"n": 1}\n\n'))
        exchange.die()
        got += reply.read()
    events = [event for event in got.split(b"\n\n") if event.strip()]
    assert events[0] == b'data: {"n": 1}'
    assert error_of(events[-1].removeprefix(b"data: "))["code"] == "engine_failed"


@pytest.mark.parametrize("head_first", [True, False])
def test_an_engine_that_dies_before_its_first_byte_is_a_502(
    client: http.client.HTTPConnection, engine: Wire, head_first: bool
) -> None:
    client.request("POST", CHAT, STREAM)
    exchange = engine.take()
    exchange.read_body()
    if head_first:
        exchange.begin_events()
    exchange.die()
    with client.getresponse() as reply:
        assert (reply.status, error_of(reply.read())["code"]) == (502, "engine_failed")


def test_a_whole_answer_cut_short_is_not_taken_for_a_whole_one(
    client: http.client.HTTPConnection, engine: Wire
) -> None:
    client.request("POST", CHAT, ASK)
    exchange = engine.take()
    exchange.read_body()
    exchange.send(HALF)
    with client.getresponse() as reply:
        assert reply.read(1) == b"{"
        exchange.die()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            reply.read()


def test_a_client_that_leaves_a_half_sent_answer_ends_the_work(
    client: http.client.HTTPConnection, engine: Wire, place: Place
) -> None:
    client.request("POST", CHAT, ASK)
    exchange = engine.take()
    exchange.read_body()
    exchange.send(HALF)
    client.getresponse().close()
    client.close()
    assert exchange.sees_the_end()
    place.eventually(lambda: not place.gateway.router._outstanding)


def test_both_connections_are_kept_for_the_next_request(client: http.client.HTTPConnection, engine: Wire) -> None:
    client.request("POST", CHAT, ASK)
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.getresponse().read() == b"1"
    client.request("POST", CHAT, ASK)
    exchange.read_head()
    exchange.read_body()
    exchange.reply(b"2")
    assert client.getresponse().read() == b"2"


def test_the_gateway_gives_up_an_idle_connection_before_an_engine_would(
    client: http.client.HTTPConnection, engine: Wire
) -> None:
    """Engines close idle connections after five seconds; a request sent in that very moment would be lost."""
    client.request("POST", CHAT, ASK)
    exchange = engine.take()
    exchange.read_body()
    exchange.reply(b"1")
    assert client.getresponse().read() == b"1"
    assert exchange.sees_the_end()


def test_requests_go_to_the_engine_that_has_the_fewest(
    client: http.client.HTTPConnection, engine: Wire, place: Place
) -> None:
    with wire() as other:
        place.report(other, "LLM")  # type: ignore[arg-type]
        first, second = place.gateway.router.table.ready["LLM"].urls
        by_url = {each.url: each for each in (engine, other)}
        client.request("POST", CHAT, ASK)
        by_url[first].take()
        with closing(http.client.HTTPConnection(client.host, client.port, timeout=PATIENCE_SECONDS)) as neighbour:
            neighbour.request("POST", CHAT, ASK)
            by_url[second].take()


def test_a_route_appears_when_a_node_wakes_the_gateway_and_not_a_round_later(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "REFRESH_SECONDS", 60.0)
    router = Router()
    watcher = RouteWatcher(redis, DeploymentStore(redis, JobStore(redis)), router)
    watcher.start()
    Place.eventually(lambda: router.loaded)
    Place.eventually(lambda: redis.pubsub_numsub(keys.WAKE)[0][1] == 1)
    NodeRegistry(redis).report(report_of("http://127.0.0.1:1"))
    Place.eventually(lambda: "LLM" in router.table.ready)
    watcher._over.set()
    redis.publish(keys.WAKE, "end")
    watcher.stop()


def report_of(url: str) -> NodeReport:
    return NodeReport(
        node_id="n", deployment="default", engine=Engine.VLLM, state=DeploymentState.READY, url=url, models=("LLM",),
        model_id="org/base", generation=1,
    )  # fmt: skip


def test_what_another_version_wrote_to_redis_does_not_end_the_watching(
    redis: Redis, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    redis.sadd(keys.NODES, "odd")
    redis.set(keys.node("odd"), b'{"of": "another version"}')
    place.eventually(lambda: "Redis cannot be read" in caplog.text)
    redis.delete(keys.node("odd"))
    with wire() as far:
        place.report(far, "LLM")  # type: ignore[arg-type]


def test_a_redis_that_comes_back_without_the_nodes_leases_takes_no_route_before_they_have_said_anew_that_they_are_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    router = Router()
    with closing(connect(RedisSettings(redis_url=f"redis://127.0.0.1:{port}/0"))) as client:  # type: ignore[arg-type]
        watcher = RouteWatcher(client, DeploymentStore(client, JobStore(client)), router)
        with valkey(tmp_path, port) as redis:
            NodeRegistry(redis).report(report_of("http://127.0.0.1:1"))
            watcher.start()
            Place.eventually(lambda: "LLM" in router.table.ready)
        Place.eventually(lambda: "Redis cannot be read" in caplog.text)
        with valkey(tmp_path, port) as redis:
            redis.delete(keys.node("n"))
            Place.eventually(lambda: redis.pubsub_numsub(keys.WAKE)[0][1] == 1)
            assert "LLM" in router.table.ready
            NodeRegistry(redis).report(report_of("http://127.0.0.1:2"))
            Place.eventually(lambda: router.table.ready["LLM"].urls == ("http://127.0.0.1:2",))
        watcher.stop()


def test_routes_outlive_the_redis_server_and_are_fresh_again_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "REFRESH_SECONDS", 0.05)
    redis_port, port = free_port(), free_port()
    client = connect(RedisSettings(redis_url=f"redis://127.0.0.1:{redis_port}/0"))  # type: ignore[arg-type]
    gateway = Gateway(GatewaySettings(), client)

    def ask(engine: Wire) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("POST", CHAT, ASK)
            exchange = engine.take()
            exchange.read_body()
            exchange.reply(engine.url.encode(), "connection: close")
            return connection.getresponse().read()

    config = serving(gateway, port)
    with closing(client), wire() as first, wire() as second, running(config):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("POST", CHAT, ASK)
            reply = connection.getresponse()  # Redis was never there: nobody knows who may ask
            assert (reply.status, error_of(reply.read())["code"]) == (503, "not_ready")
        with valkey(tmp_path, redis_port) as redis:
            NodeRegistry(redis).report(report_of(first.url))
            Place.eventually(lambda: gateway.door.loaded and "LLM" in gateway.router.table.ready)
        assert ask(first) == first.url.encode()
        with valkey(tmp_path, redis_port) as redis:
            NodeRegistry(redis).report(report_of(second.url))
            Place.eventually(lambda: gateway.router.table.ready["LLM"].urls == (second.url,))
            assert ask(second) == second.url.encode()
