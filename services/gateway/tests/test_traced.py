"""Traces of the token path: whose they continue, what they tell, what they never tell, and that they hold nobody up."""

import logging
import time

import pytest
from hearth_telemetry import traces

from services.gateway.tests.conftest import Place, asking
from tests.support.collector import Collector, Sent, collecting

CHAT = "/api/v1/chat/completions"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}


def sent(collector: Collector, count: int = 1) -> list[Sent]:
    """The spans, once there are so many."""

    def are_there(spans: list[Sent]) -> bool:
        traces.flush()
        return len(spans) >= count

    return collector.until(are_there)


def test_a_completion_continues_the_clients_trace_and_the_engine_continues_it(
    collector: Collector, place: Place
) -> None:
    engine = place.serve()
    place.report(engine, "LLM")
    told = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    reply = place.http.post(CHAT, content=asking("LLM", usage=told), headers={**PARENT, "x-request-id": "r-1"})
    assert reply.status_code == 200
    [span] = sent(collector)
    assert (span.trace_id, span.parent_id, span.kind) == (TRACE, SPAN, "SERVER")
    assert (span.name, span.is_error) == ("POST /v1/chat/completions", False)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "LLM",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "hearth.request_id": "r-1",
        "hearth.key_id": "open",
    }
    assert engine.heads[0]["traceparent"] == f"00-{TRACE}-{span.span_id}-01"
    assert engine.heads[0]["tracestate"] == "vendor=1"


def test_a_stream_tells_when_its_first_token_came(collector: Collector, place: Place) -> None:
    engine = place.serve("stream")
    place.report(engine, "LLM")
    with place.http.stream("POST", CHAT, content=asking("LLM", stream=True)) as reply:
        chunks = reply.iter_raw()
        next(chunks)
        before = time.monotonic()
        engine.go_on.set()
        list(chunks)
    [span] = sent(collector)
    assert span.parent_id == ""
    assert span.attributes["gen_ai.request.stream"] is True
    assert 0 <= span.event_times["first token"] < (time.monotonic() - before + 5) * 1e9


@pytest.mark.parametrize(
    "wrong", ["", "00-0-0-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", "x" * 5000, "ff-\xff"]
)
def test_a_traceparent_that_is_none_begins_a_new_trace(collector: Collector, place: Place, wrong: str) -> None:
    engine = place.serve()
    place.report(engine, "LLM")
    headers = {b"traceparent": wrong.encode("latin-1"), b"tracestate": b"vendor=1"}
    assert place.http.post(CHAT, content=asking("LLM"), headers=headers).status_code == 200
    [span] = sent(collector)
    assert (span.parent_id, span.trace_id == TRACE) == ("", False)
    assert "tracestate" not in engine.heads[0]


def test_a_trace_that_the_client_does_not_sample_is_passed_on_and_not_sent(collector: Collector, place: Place) -> None:
    engine = place.serve()
    place.report(engine, "LLM")
    place.http.post(CHAT, content=asking("LLM"), headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    place.http.post(CHAT, content=asking("LLM"), headers={"x-request-id": "after"})
    assert [span.attributes["hearth.request_id"] for span in sent(collector)] == ["after"]
    assert engine.heads[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert engine.heads[0]["traceparent"].endswith("-00")


def test_refusals_and_failures_are_told(collector: Collector, place: Place) -> None:
    engine = place.serve("break")
    place.report(engine, "LLM")
    assert place.http.post(CHAT, content=asking("no-such-model")).status_code == 404
    assert place.http.post(CHAT, content=asking("LLM")).status_code == 500
    assert place.http.get("/api/v1/jobs/").status_code == 503  # nobody is there
    spans = {span.attributes["http.response.status_code"]: span for span in sent(collector, 3)}
    assert (spans[404].is_error, spans[500].is_error, spans[503].is_error) == (False, True, True)
    assert spans[500].attributes["error.type"] == "500"
    assert (spans[503].name, spans[503].attributes["url.path"]) == ("GET /api/v1/jobs", "/api/v1/jobs/")


def test_no_byte_of_a_prompt_a_query_or_a_key_is_sent(collector: Collector, place: Place) -> None:
    place.report(place.serve(), "LLM")
    secret = "the-secret-words"
    headers = {"authorization": f"Bearer {secret}", "x-other": secret}
    messages = [{"role": "user", "content": secret}]
    place.http.post(f"{CHAT}?q={secret}", content=asking("LLM", messages=messages), headers=headers)
    place.http.post(CHAT, content=asking(secret, messages=messages), headers=headers)
    place.http.get("/api/v1/jobs/", params={"q": secret}, headers=headers)
    sent(collector, 3)
    assert not any(secret.encode() in body for body in collector.bodies)


def test_a_collector_that_is_away_holds_nobody_up_and_is_complained_of_once(
    away: Collector, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.report(place.serve(), "LLM")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            began = time.monotonic()
            assert place.http.post(CHAT, content=asking("LLM")).status_code == 200
            assert time.monotonic() - began < 2
            traces.flush()  # as long as it may take: the exporter is trying meanwhile
        complaints = [record for record in caplog.records if record.name.startswith("opentelemetry")]
        assert len(complaints) == 1
    with collecting(away):  # it goes on by itself once there is one
        place.http.post(CHAT, content=asking("LLM"), headers={"x-request-id": "at-last"})
        away.until(lambda spans: any(span.attributes["hearth.request_id"] == "at-last" for span in spans))
