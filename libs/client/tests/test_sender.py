"""What the client does when connections break, parts are away, and replies are not what was hoped for."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hearth_client import AsyncHearth, Hearth, NotReached, Refused, Unauthorized, Unavailable, UnexpectedReply
from hearth_client.errors import Conflict, Invalid
from hearth_contracts.access import KeyRequest
from hearth_contracts.base import now
from hearth_contracts.jobs import Job, JobKind, JobStatus
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.support.servers import free_port
from tests.support.stand_in import Answer, Broken, StandIn, standing_in

JOB = Job(
    id="4d78d943-1896-4d7b-9f11-b10cc2389ba3", name="DOWNLOAD_a", status=JobStatus.RUNNING, started_at=now(),
    kind=JobKind.DOWNLOAD, created_at=now(),
)  # fmt: skip
OVER = JOB.model_copy(update={"status": JobStatus.FINISHED, "progress": 1.0})


def body(data: str) -> Answer:
    return lambda _request: Response(data, media_type="application/json")


def job(job: Job) -> Answer:
    return body(job.model_dump_json())


def broken(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"["
        raise Broken

    return StreamingResponse(pieces(), media_type="application/json", headers={"content-length": "100"})


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    document = {"title": "x", "status": status, "detail": detail, **more}
    return lambda _request: JSONResponse(document, status, headers, media_type="application/problem+json")


def events(*lines: str, end: str | None = None) -> Answer:
    """A stream that breaks off after these, or ends with that."""

    async def pieces() -> AsyncIterator[bytes]:
        for number, line in enumerate(lines, start=1):
            yield f"id: {line[0]}{number}\ndata: {line}\n\n".encode()
        if end is None:
            raise Broken
        yield f"event: end\ndata: {end}\n\n".encode()

    return lambda _request: StreamingResponse(pieces(), media_type="text/event-stream")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standing_in(StandIn()) as server:
        yield server


@pytest.fixture
def hearth(server: StandIn) -> Iterator[Hearth]:
    with Hearth(server.url, patience=5) as client:
        yield client


def test_a_reading_call_is_asked_again_when_its_reply_breaks_off(hearth: Hearth, server: StandIn) -> None:
    server.answers = [broken, broken, body("[]")]
    assert hearth.models.list() == []
    assert len(server.asked) == 3


def test_a_call_that_begins_a_job_is_asked_again_with_the_same_key(hearth: Hearth, server: StandIn) -> None:
    server.answers = [broken, job(JOB)]
    assert hearth.models.add("org/model").id == JOB.id
    first, second = (request.headers["idempotency-key"] for request in server.asked)
    assert first == second
    hearth.models.add("org/model")
    assert server.asked[2].headers["idempotency-key"] != first


def test_a_call_that_would_do_more_asked_twice_is_not_asked_again(hearth: Hearth, server: StandIn) -> None:
    server.answers = [broken]
    with pytest.raises(NotReached):
        hearth.keys.create(KeyRequest(name="ann"))
    assert len(server.asked) == 1


def test_a_part_that_is_away_is_asked_again_as_soon_as_it_says(hearth: Hearth, server: StandIn) -> None:
    server.answers = [problem(503, "Redis is not reachable", {"Retry-After": "1"}), body("[]")]
    began = time.monotonic()
    assert hearth.jobs.list() == []
    assert time.monotonic() - began >= 1


def test_patience_ends_with_the_last_reason(server: StandIn) -> None:
    server.answers = [problem(503, "Redis is not reachable")]
    with (
        Hearth(server.url, patience=0.5) as hearth,
        pytest.raises(Unavailable, match="Redis is not reachable") as caught,
    ):
        hearth.jobs.list()
    assert len(server.asked) > 1
    assert "hearth doctor" in caught.value.remedy


def test_nobody_there_says_where_was_asked_and_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Hearth(url, patience=0) as hearth, pytest.raises(NotReached, match=url) as caught:
        hearth.models.list()
    assert "hearth up" in caught.value.remedy


def test_a_refusal_says_what_where_and_what_to_do(hearth: Hearth, server: StandIn) -> None:
    faults = [{"loc": ["line", number], "msg": "is no JSON"} for number in range(1, 31)]
    server.answers = [problem(422, "30 lines are wrong", {"x-request-id": "r1"}, errors=faults)]
    with pytest.raises(Invalid) as caught:
        hearth.finetune.latest()
    error = caught.value
    assert (error.status, error.what, error.request_id) == (422, "30 lines are wrong", "r1")
    assert error.faults[11].loc == ["line", 12]
    told = str(error).splitlines()
    assert told[:3] == ["30 lines are wrong", "GET /api/v1/finetune/status/", "line 1: is no JSON"]
    assert told[-1] == "... and 10 more"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (problem(401, "this needs an API key"), Unauthorized, "HEARTH_API_KEY"),
        (problem(409, "it is there"), Conflict, "it is there"),
        (lambda _request: JSONResponse({"error": {"message": "no such model"}}, 404), Refused, "no such model"),
        (lambda _request: Response("<html>teapot</html>", 418), Refused, "teapot"),
        (lambda _request: Response("<html>hello</html>"), UnexpectedReply, "HEARTH_URL"),
    ],
)
def test_every_answer_has_its_exception(
    hearth: Hearth, server: StandIn, answer: Answer, kind: type[Exception], words: str
) -> None:
    server.answers = [answer]
    with pytest.raises(kind, match=words):
        hearth.models.list()


def test_a_field_that_this_version_does_not_know_does_no_harm(hearth: Hearth, server: StandIn) -> None:
    server.answers = [body('[{"model_id": "a", "adapter": false, "new": {"field": 1}}]')]
    assert hearth.models.list()[0].model_id == "a"


def test_the_key_is_sent_and_in_no_repr(server: StandIn) -> None:
    server.answers = [body("[]")]
    with Hearth(server.url, "secret-key") as hearth:
        hearth.models.list()
        assert server.asked[0].headers["authorization"] == "Bearer secret-key"
        assert "secret-key" not in repr(hearth.settings)


def test_settings_come_from_the_environment(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [body("[]")]
    monkeypatch.setenv("HEARTH_URL", f"{server.url}/")
    monkeypatch.setenv("HEARTH_API_KEY", "from-env")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")  # no proxy stands before this machine
    with Hearth() as hearth:
        hearth.models.list()
    assert server.asked[0].url.path == "/api/v1/models/"
    assert server.asked[0].headers["authorization"] == "Bearer from-env"


@contextmanager
def coming_back(server: StandIn) -> Iterator[None]:
    """The server is gone at first, and listens after a second."""
    over = threading.Event()

    def serve() -> None:
        time.sleep(1)
        with standing_in(server):
            over.wait(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_waiting_outlives_a_platform_that_goes_away_and_comes_back() -> None:
    server = StandIn(answers=[broken, job(JOB), broken, job(OVER)])
    seen = []
    with coming_back(server), Hearth(server.url, patience=10) as hearth:
        handle = hearth.jobs.get(JOB.id)
        assert handle.wait(progress=seen.append).status is JobStatus.FINISHED
    assert [progress.done for progress in seen] == [1.0]
    assert handle.job == OVER


def test_what_is_followed_goes_on_behind_the_last_event(hearth: Hearth, server: StandIn) -> None:
    server.answers = [job(JOB), events("a", "b"), events("c", end=OVER.model_dump_json())]
    assert list(hearth.jobs.get(JOB.id).follow()) == ["a", "b", "c"]
    assert [request.headers.get("last-event-id") for request in server.asked[1:]] == [None, "b2"]


def test_a_stream_that_ends_without_its_end_is_asked_for_again(hearth: Hearth, server: StandIn) -> None:
    server.answers = [
        job(JOB),
        lambda _request: Response("", media_type="text/event-stream"),
        events("a", end=OVER.model_dump_json()),
    ]
    assert list(hearth.jobs.get(JOB.id).follow()) == ["a"]


def test_the_async_client_does_the_same(server: StandIn) -> None:
    server.answers = [
        broken, job(JOB), broken, job(OVER), events("a"), events("b", end=OVER.model_dump_json()),
        problem(404, "there is no model"),
    ]  # fmt: skip

    async def main() -> tuple[Job, list[str]]:
        async with AsyncHearth(server.url, patience=5) as hearth:
            handle = await hearth.models.add("org/model")
            over = await handle.wait()
            lines = [line async for line in handle.follow()]
            with pytest.raises(Refused, match="there is no model"):
                await hearth.models.delete("org/model")
            return over, lines

    assert asyncio.run(main()) == (OVER, ["a", "b"])
    keys = [request.headers.get("idempotency-key") for request in server.asked[:2]]
    assert keys[0] == keys[1] is not None
