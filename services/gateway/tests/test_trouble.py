"""Clients that leave, and engines that are slow, break off, or break the rules."""

import json
import time

import pytest
from hearth_access.usage_store import UsageStore
from hearth_contracts.base import now

from services.gateway.tests.conftest import Place, is_idle
from services.gateway.tests.dialled import ASK, STREAM, Dial, event, limited
from tests.support.wire import Wire, wire


def used(place: Place) -> list[int]:
    """Requests, prompt and completion tokens that Redis has counted."""
    rows = UsageStore(place.redis).read(now().date(), now().date())
    return [
        sum(counts) for counts in zip(*((r.requests, r.prompt_tokens, r.completion_tokens) for r in rows), strict=True)
    ]


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
