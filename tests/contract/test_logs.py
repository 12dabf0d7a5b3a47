"""A job's log as server-sent events, through the gateway as a client gets it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.conftest import Running

pytestmark = pytest.mark.timeout(600)


@contextmanager
def followed(platform: Running, job_id: str, last_event_id: str = "") -> Iterator[httpx.Response]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last_event_id}
    with platform.http.stream("GET", f"/api/v1/jobs/{job_id}/logs/", headers=headers, timeout=30) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield reply


def test_the_log_of_a_job_that_is_over_ends_with_the_job(platform: Running, adapter_id: str) -> None:
    (job,) = [
        platform.http.get(f"/api/v1/jobs/{each['job']['id']}/status/").json()
        for each in platform.http.get("/api/v1/finetune/").json()
        if each["adapter_id"] == adapter_id
    ]
    with followed(platform, job["id"]) as reply:
        text = reply.read().decode()
    *lines, last = text.strip().split("\n\n")
    assert lines
    assert "event: end" in last
    assert json.loads(last.partition("data: ")[2]) == job
    ids = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]
    with followed(platform, job["id"], ids[-1]) as reply:  # as a client that lost its connection comes back
        assert reply.read().decode().strip() == last


def test_the_lines_of_a_job_that_goes_on_arrive_while_it_does(platform: Running, deployed: dict[str, object]) -> None:
    job = platform.http.get("/api/v1/deploy/status/").json()["job"]
    assert job["status"] == "RUNNING"
    with followed(platform, job["id"]) as reply:
        assert next(line for line in reply.iter_lines() if line.startswith("data: "))
