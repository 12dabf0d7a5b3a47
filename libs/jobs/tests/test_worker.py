"""The worker on a real server: what becomes of a frozen work-horse, and of both while Redis is away."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hearth_jobs import worker as worker_module
from hearth_jobs.alive import waiting_workers
from hearth_jobs.queues import Lane, enqueue
from hearth_jobs.worker import HearthWorker, unique
from redis import Redis
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from tests.support.servers import free_port, valkey

LANE = Lane("a-queue", "some_work.run")
URGENT = Lane("urgent", "some_work.run")
WORK = """
import os, pathlib, time
def run(item):
    pathlib.Path(__file__).with_name(item).write_text(str(os.getpid()))
    time.sleep(600)
"""
WORKER = """
import os, pathlib, sys
from hearth_jobs import worker
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
worker.SILENT_SECONDS, worker._MONITOR_SECONDS = 1.5, 1
def make_ready():
    pathlib.Path(sys.argv[2], "ready").write_text(str(os.getpid()))
worker.work(
    connect(RedisSettings(redis_url=sys.argv[1])), ["urgent", "a-queue"], "test", make_ready if sys.argv[2:] else None,
    says=lambda: {"models": "acme/one"},
)
"""


@contextmanager
def worker(redis: Redis, folder: Path, *, warm: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker of a queue of the test's own. A warm one's work-horse says in `ready` that it stands by."""
    (folder / "some_work.py").write_text(WORK)
    url = f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, *([str(folder)] if warm else [])],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def horse(path: Path) -> psutil.Process:
    until(lambda: path.exists() and path.read_text())
    return psutil.Process(int(path.read_text()))


def test_a_frozen_work_horse_is_killed_and_the_worker_takes_the_next_item(redis: Redis, tmp_path: Path) -> None:
    with worker(redis, tmp_path):
        enqueue(redis, LANE, "first")
        frozen = horse(tmp_path / "first")
        frozen.send_signal(signal.SIGSTOP)
        until(lambda: not frozen.is_running())
        enqueue(redis, LANE, "second")
        assert horse(tmp_path / "second").is_running()


def test_a_killed_worker_takes_its_work_horse_along(redis: Redis, tmp_path: Path) -> None:
    with worker(redis, tmp_path) as process:
        enqueue(redis, LANE, "item")
        works = horse(tmp_path / "item")
        process.kill()
        until(lambda: not works.is_running())


def test_worker_and_work_horse_outlive_a_redis_that_goes_away(tmp_path: Path) -> None:
    port = free_port()
    with valkey(tmp_path / "valkey", port) as redis:
        with worker(redis, tmp_path) as process:
            enqueue(redis, LANE, "first")
            works = horse(tmp_path / "first")
            server = psutil.Process(redis.info("server")["process_id"])
            server.kill()
            server.wait()
            until(lambda: (tmp_path / "log").read_text().count("Redis is away") > 1)
            with valkey(tmp_path / "valkey", port) as again:
                assert (process.poll(), works.is_running()) == (None, True)
                works.kill()
                enqueue(again, LANE, "second")
                assert horse(tmp_path / "second").is_running()


def test_the_work_horse_that_stands_by_does_the_item_and_another_takes_its_place(redis: Redis, tmp_path: Path) -> None:
    with worker(redis, tmp_path, warm=True):
        first = horse(tmp_path / "ready")
        enqueue(redis, LANE, "first")
        assert horse(tmp_path / "first").pid == first.pid
        (tmp_path / "ready").unlink()
        first.kill()
        second = horse(tmp_path / "ready")
        enqueue(redis, LANE, "second")
        assert horse(tmp_path / "second").pid == second.pid != first.pid


@pytest.mark.parametrize("warm", [False, True])
def test_a_worker_of_two_queues_takes_from_both_and_from_the_first_first(
    redis: Redis, tmp_path: Path, warm: bool
) -> None:
    enqueue(redis, LANE, "later")
    enqueue(redis, URGENT, "sooner")
    with worker(redis, tmp_path, warm=warm):
        horse(tmp_path / "sooner").kill()
        assert horse(tmp_path / "later").is_running()
    assert not redis.llen("rq:queue:urgent") and not redis.llen("rq:queue:a-queue")


def test_one_that_dies_while_it_stands_by_loses_no_item(redis: Redis, tmp_path: Path) -> None:
    with worker(redis, tmp_path, warm=True):
        dead = horse(tmp_path / "ready")
        dead.kill()
        until(lambda: dead.status() == psutil.STATUS_ZOMBIE)
        enqueue(redis, LANE, "item")
        assert horse(tmp_path / "item").pid != dead.pid


def test_a_worker_that_is_told_to_stop_or_killed_leaves_none_standing_by(redis: Redis, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with worker(redis, tmp_path, warm=True) as process:
            waits = horse(tmp_path / "ready")
            until(lambda: redis.smembers("rq:workers"))  # it takes items, and heeds signals
            process.send_signal(number)
            process.wait(30)
            until(lambda waits=waits: not waits.is_running())
        (tmp_path / "ready").unlink()


def test_a_request_to_stop_that_got_lost_in_a_fork_is_heeded_before_the_next_wait(redis: Redis) -> None:
    worker = HearthWorker([Queue("some", connection=redis)], connection=redis, serializer=JSONSerializer)
    worker.set_state(WorkerStatus.IDLE)
    with contextlib.suppress(StopRequested):  # as the hooks that Python runs around a fork do
        worker._shutdown()
    with pytest.raises(StopRequested):
        worker.heartbeat()


def born(redis: Redis, name: str) -> HearthWorker:
    worker = HearthWorker([Queue("some", connection=redis)], name=name, connection=redis, serializer=JSONSerializer)
    worker.register_birth()
    return worker


def test_who_waits_for_a_job_is_known_with_what_they_say_of_themselves(redis: Redis, tmp_path: Path) -> None:
    assert waiting_workers(redis, LANE.queue, "models") == {}
    with worker(redis, tmp_path):
        until(lambda: waiting_workers(redis, LANE.queue, "models"))
        ((name, told),) = waiting_workers(redis, LANE.queue, "models").items()
        assert (name.partition("@")[0], told) == ("test", "acme/one")
        enqueue(redis, LANE, "item")
        horse(tmp_path / "item")
        assert waiting_workers(redis, LANE.queue, "models") == {}


def test_a_killed_container_begins_again_with_the_same_host_and_process_id(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for since in ("100", "250"):
        monkeypatch.setattr(worker_module, "started", lambda _pid, since=since: since)
        born(redis, unique("training"))
    assert len(Worker.all(connection=redis)) == 2


def test_a_worker_whose_entry_expired_while_redis_was_away_is_listed_again(redis: Redis) -> None:
    worker = born(redis, "training@here-1-1")
    redis.delete(worker.key)
    assert Worker.all(connection=redis) == []  # and RQ forgets its name too
    worker.heartbeat()
    (found,) = Worker.all(connection=redis)
    assert (found.name, found.pid, found.last_heartbeat is not None) == (worker.name, os.getpid(), True)
    assert Worker.count(queue=Queue("some", connection=redis)) == 1
