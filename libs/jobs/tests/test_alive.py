"""The health check of a container that has no HTTP: it asks Redis for the worker's own sign of life."""

import socket
from datetime import timedelta

import pytest
from hearth_contracts.base import now
from hearth_jobs.alive import RECENT, is_alive, main, said
from hearth_jobs.worker import HearthWorker
from redis import Redis
from rq import Queue, Worker
from rq.utils import utcformat

from tests.support.servers import free_port


def register(redis: Redis, name: str, beat_ago: timedelta = timedelta(0)) -> None:
    worker = Worker([Queue("training", connection=redis)], name=name, connection=redis)
    worker.register_birth()
    redis.hset(worker.key, "last_heartbeat", utcformat(now() - beat_ago))


@pytest.mark.parametrize(
    ("name", "beat_ago", "alive"),
    [
        ("training@{host}-7", timedelta(0), True),
        ("training@{host}-7", RECENT + timedelta(seconds=5), False),
        ("training@elsewhere-7", timedelta(0), False),
        ("downloads@{host}-7", timedelta(0), False),
    ],
)
def test_a_worker_is_alive_that_is_of_this_host_and_name_and_beat_lately(
    redis: Redis, name: str, beat_ago: timedelta, alive: bool
) -> None:
    register(redis, name.format(host=socket.gethostname()), beat_ago)
    assert is_alive(redis, "training") is alive


def test_nobody_is_alive_where_no_worker_has_registered(redis: Redis) -> None:
    assert not is_alive(redis, "training")


def test_what_workers_say_of_themselves_is_told_until_they_are_forgotten(redis: Redis) -> None:
    register(redis, "training@here-1")
    for number, says in ((2, "ray"), (3, "local")):
        worker = HearthWorker([Queue("training", connection=redis)], name=f"training@here-{number}", connection=redis)
        worker.says = lambda says=says: {"executor": says}
        worker.register_birth()
    redis.delete(worker.key)  # as Redis does in time with one that was killed

    assert sorted(said(redis, "training", "executor"), key=str) == [None, "ray"]
    assert said(redis, "downloads", "executor") == []


def test_while_redis_is_away_only_the_check_that_may_restart_a_worker_is_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    assert main(["training"]) == 1
    assert main(["training", "--redis-or-not"]) == 0


def test_where_redis_answers_a_worker_that_is_not_there_fails_both_checks(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTH_REDIS_URL", redis_url)
    assert main(["training"]) == 1
    assert main(["training", "--redis-or-not"]) == 1
