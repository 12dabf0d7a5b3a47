"""The routes of jobs: lists, interrupts, logs, idempotency keys; on real Redis and S3."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_contracts.names import new_id
from hearth_jobs.config import RedisSettings
from hearth_jobs.queues import transaction
from hearth_management import logs
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import Services, build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_web.asker import KEY_HEADER, ROLE_HEADER
from pydantic import SecretStr

from services.management.tests.conftest import answered, refused
from tests.support.servers import free_port, running, valkey

BASE = "acme/llm"


def add(client: TestClient, model_id: str, **headers: str) -> httpx.Response:
    return client.post("/v1/models/add", params={"model_id": model_id}, headers=headers)


# -- lists and interrupts


def test_jobs_are_listed_newest_first(client: TestClient) -> None:
    assert answered(client.get("/v1/jobs")) == []
    added = [answered(add(client, f"acme/m{number}")) for number in range(3)]
    assert answered(client.get("/v1/jobs/")) == added[::-1]
    assert answered(client.get(f"/v1/jobs/{added[0]['id']}/status/")) == added[0]


def test_an_interrupt_is_idempotent_and_never_changes_what_is_over(client: TestClient, services: Services) -> None:
    job = answered(add(client, BASE))
    first = answered(client.post(f"/v1/jobs/{job['id']}/interrupt"))
    assert (first["status"], first["stage"]) == ("KILLED", "interrupted")
    assert answered(client.post(f"/v1/jobs/{job['id']}/interrupt")) == first

    finished = answered(add(client, "acme/other"))
    services.jobs.finish(finished["id"], services.jobs.claim(finished["id"], "worker"), JobStatus.FINISHED)
    assert answered(client.post(f"/v1/jobs/{finished['id']}/interrupt"))["status"] == "FINISHED"


@pytest.mark.parametrize("job_id", [new_id(), "nothing", "..%2F..%2Fsecrets.env"])
def test_an_unknown_job_is_a_404(client: TestClient, job_id: str) -> None:
    refused(client.get(f"/v1/jobs/{job_id}/status"), 404)
    refused(client.post(f"/v1/jobs/{job_id}/interrupt"), 404)
    refused(client.get(f"/v1/jobs/{job_id}/logs"), 404)


def test_the_end_of_a_jobs_log_is_shown(client: TestClient, services: Services) -> None:
    job = answered(add(client, BASE))
    assert client.get(f"/v1/jobs/{job['id']}/logs").text == ""
    log = services.home.job_log(job["id"])
    log.parent.mkdir(parents=True)
    log.write_bytes(b"old\n" * 100_000 + b"last words \xff\n")
    shown = client.get(f"/v1/jobs/{job['id']}/logs")
    assert shown.text.endswith("last words \N{REPLACEMENT CHARACTER}\n")
    assert len(shown.text) < 300_000
    assert shown.headers["content-type"].startswith("text/plain")


# -- pages


def test_jobs_are_paged_by_the_link_header(client: TestClient) -> None:
    added = [answered(add(client, f"acme/m{number}")) for number in range(5)][::-1]
    seen: list[Any] = []
    reply = client.get("/v1/jobs", params={"limit": 2, "kind": ["download", "import"]})
    while True:
        seen += answered(reply)
        if not (following := reply.links.get("next")):
            break
        reply = client.get(f"/v1/jobs{following['url']}")
        assert reply.request.url.params.get_list("kind") == ["download", "import"]
    assert seen == added


def test_jobs_are_filtered(client: TestClient, services: Services) -> None:
    first, second = (answered(add(client, f"acme/m{number}")) for number in range(2))
    services.jobs.interrupt(first["id"])
    assert answered(client.get("/v1/jobs?status=CREATED")) == [second]
    assert [job["id"] for job in answered(client.get("/v1/jobs?status=KILLED&status=FAILED"))] == [first["id"]]
    assert answered(client.get("/v1/jobs?kind=deploy")) == []
    assert answered(client.get("/v1/jobs", params={"since": second["created_at"]})) == [second]
    assert answered(client.get("/v1/jobs", params={"since": second["created_at"] + "Z"})) == [second]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "status=DONE", "kind=", "since=yesterday", "cursor=nobody"]
)
def test_a_filter_that_makes_no_sense_is_refused_and_named(client: TestClient, query: str) -> None:
    response = client.get(f"/v1/jobs?{query}")
    refused(response, 422)
    assert response.json()["errors"][0]["loc"][:2] == ["query", query.partition("=")[0]]


# -- logs as they come


@pytest.fixture
def address(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Management on a real server: what streams must be seen to stream."""
    monkeypatch.setattr(logs, "KEEP_ALIVE_SECONDS", 0.5)
    config = uvicorn.Config(management_app(services), port=0, lifespan="off", log_level="error")
    with running(config) as server:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


class Events:
    """The events of a stream, read one by one; comments are kept apart."""

    def __init__(self, reply: httpx.Response) -> None:
        self.lines = reply.iter_lines()
        self.comments = 0

    def next(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for line in self.lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value if name not in fields else f"{fields[name]}\n{value}"
            elif fields:
                return fields
        raise AssertionError("the stream ended")


def write(services: Services, job_id: str, text: str) -> None:
    path = services.home.job_log(job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def test_a_log_is_followed_from_its_first_line_to_the_jobs_end(
    client: TestClient, services: Services, address: str
) -> None:
    job = answered(add(client, BASE))
    attempt = services.jobs.claim(job["id"], "worker")
    with httpx.stream("GET", f"{address}/v1/jobs/{job['id']}/logs/?follow=true", timeout=30) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = Events(reply)
        write(services, job["id"], "one\ntwo\nhal")
        assert events.next() == {"data": "one", "id": "4"}
        assert events.next() == {"data": "two", "id": "8"}
        write(services, job["id"], "f\n10%\r20%\n")
        assert events.next() == {"data": "half", "id": "13"}
        assert events.next() == {"data": "10%\n20%", "id": "21"}
        write(services, job["id"], "no end")
        services.jobs.finish(job["id"], attempt, JobStatus.FAILED, "disk full")
        assert events.next() == {"data": "no end", "id": "27"}
        end = events.next()
    assert end["event"] == "end"
    ended = json.loads(end["data"])
    assert (ended["id"], ended["status"], ended["error"]) == (job["id"], "FAILED", "disk full")


def test_a_client_that_comes_back_gets_what_came_after_the_last_line_it_saw(
    client: TestClient, services: Services
) -> None:
    job = answered(add(client, BASE))
    write(services, job["id"], "one\ntwo\nthree\n")
    services.jobs.interrupt(job["id"])

    def lines(**headers: str) -> list[str]:
        reply = client.get(f"/v1/jobs/{job['id']}/logs", headers={"Accept": "text/event-stream", **headers})
        return [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")][:-1]

    assert lines() == ["one", "two", "three"]
    assert lines(**{"Last-Event-ID": "8"}) == ["three"]
    assert lines(**{"Last-Event-ID": "14"}) == []
    for unknown in ("99", "-1", "x", "9" * 5000):
        assert lines(**{"Last-Event-ID": unknown}) == ["one", "two", "three"]


def test_a_long_log_is_followed_from_its_last_part_in_whole_lines(client: TestClient, services: Services) -> None:
    job = answered(add(client, BASE))
    services.jobs.interrupt(job["id"])
    numbers = [f"{number:07}" for number in range(100_000)]
    write(services, job["id"], "\n".join(numbers))
    reply = client.get(f"/v1/jobs/{job['id']}/logs?follow=true")
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")][:-1]
    assert lines == numbers[-len(lines) :]
    assert len(lines) * 8 > logs.TAIL_BYTES - 8


def test_a_silent_log_keeps_its_stream_alive_and_a_client_that_leaves_ends_it(
    client: TestClient, services: Services, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = answered(add(client, BASE))
    asked, left = threading.Event(), threading.Event()
    real = logs.follow

    async def watched(*arguments: Any) -> Any:
        try:
            async for event in real(*arguments):
                asked.set()
                yield event
        except asyncio.CancelledError:
            left.set()
            raise

    monkeypatch.setattr("hearth_management.api.jobs.follow", watched)
    with httpx.stream("GET", f"{address}/v1/jobs/{job['id']}/logs?follow=true", timeout=30) as reply:
        assert next(reply.iter_lines()) == ": keep-alive"
        assert asked.is_set()
    assert left.wait(10)


async def test_a_followed_log_outlives_redis_being_away(
    home: HomeSettings, s3_settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEEP_ALIVE_SECONDS", 0.0)
    port = free_port()
    redis = RedisSettings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"))
    services = build_services(ManagementSettings(), home, redis, s3_settings)
    with valkey(tmp_path / "valkey", port):
        pipe = transaction(services.redis)
        job = services.jobs.create(pipe, kind=JobKind.IMPORT, name="IMPORT_x", subject="x")
        pipe.execute()
        events = logs.follow(services, job.id, None)
        assert await anext(events) == b": keep-alive\n\n"
    assert await anext(events) == b": keep-alive\n\n"
    write(services, job.id, "still here\n")
    assert b"data: still here\n" in await anext(events)
    with valkey(tmp_path / "valkey", port):
        services.jobs.interrupt(job.id)
        assert b"event: end\n" in [event async for event in events][-1]


# -- idempotency keys


def test_the_same_request_with_its_key_begins_one_job(client: TestClient, services: Services) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            answered(reply) for reply in pool.map(lambda _: add(client, BASE, **{"Idempotency-Key": "k 1"}), range(8))
        ]
    assert len({job["id"] for job in jobs}) == len(services.jobs.all()) == 1
    refused(add(client, "acme/other", **{"Idempotency-Key": "k 1"}), 422, jobs[0]["id"])
    refused(add(client, BASE), 409, jobs[0]["id"])


def test_every_request_that_begins_a_job_takes_a_key(
    client: TestClient, services: Services, put_model: Callable[..., None], put_folder: Callable[[str], Any]
) -> None:
    put_model("acme/there")
    put_folder("mini")
    bodies = {"/v1/deploy": {"model_id": "acme/there"}, "/v1/models/import": {"model_id": "acme/m", "folder": "mini"}}
    for path, body in bodies.items():
        headers = {"Idempotency-Key": path}
        first = answered(client.post(path, json=body, headers=headers))
        assert answered(client.post(f"{path}/", json=body, headers=headers))["id"] == first["id"]
        refused(client.post(path, json={**body, "model_id": "acme/else"}, headers=headers), 422, "another request")
    assert len(services.jobs.all()) == 2


def test_a_key_is_its_askers_own(client: TestClient, services: Services, put_model: Callable[..., None]) -> None:
    put_model("acme/there")

    def deploy(api_key: str | None) -> str:
        whose = {KEY_HEADER: api_key, ROLE_HEADER: "user"} if api_key else {}
        headers = {"Idempotency-Key": "same", **whose}
        return str(answered(client.post("/v1/deploy", json={"model_id": "acme/there"}, headers=headers))["id"])

    askers = ("ann", "bob", None)
    assert [deploy(asker) for asker in askers] == [deploy(asker) for asker in askers]
    assert len(services.jobs.all()) == 3


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\t"])
def test_a_key_that_is_none_is_refused(client: TestClient, services: Services, key: str) -> None:
    response = add(client, BASE, **{"Idempotency-Key": key})
    refused(response, 422)
    assert response.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert services.jobs.all() == []
