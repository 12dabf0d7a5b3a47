"""The worker on a real server: what becomes of a frozen work-horse, and of both while Redis is away."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from hearth_jobs.queues import Lane, enqueue
from redis import Redis

from tests.support.servers import free_port, valkey

LANE = Lane("a-queue", "some_work.run")
WORK = """
import os, pathlib, time
def run(item):
    pathlib.Path(__file__).with_name(item).write_text(str(os.getpid()))
    time.sleep(600)
"""
WORKER = """
import sys
from hearth_jobs import worker
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
worker.SILENT_SECONDS, worker._MONITOR_SECONDS = 1.5, 1
worker.work(connect(RedisSettings(redis_url=sys.argv[1])), "a-queue", "test")
"""


@contextmanager
def worker(redis: Redis, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker of a queue of the test's own."""
    (folder / "some_work.py").write_text(WORK)
    url = f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", WORKER, url], env=environment, stdout=log, stderr=log)
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
