"""One job for one key, on a real server."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hearth_contracts.errors import Conflict, Invalid
from hearth_contracts.jobs import Job, JobKind
from hearth_jobs import idempotency
from hearth_jobs.idempotency import KEPT_SECONDS, Idempotency, Recorder
from hearth_jobs.queues import transaction
from hearth_jobs.store import JobStore
from redis import Redis


@pytest.fixture
def store(redis: Redis) -> JobStore:
    return JobStore(redis)


@pytest.fixture
def once(store: JobStore) -> Idempotency:
    return Idempotency(store.redis, store)


def begin(store: JobStore, record: Recorder) -> Job:
    pipe = transaction(store.redis)
    job = store.create(pipe, kind=JobKind.DEPLOY, name="DEPLOY_x", subject="x")
    record(pipe, job)
    pipe.execute()
    return job


def ask(once: Idempotency, key: str | None, body: str = "{}", route: str = "POST /v1/x") -> Job:
    return once.once(key, route, body, lambda record: begin(once.jobs, record))


def test_without_a_key_each_request_begins_a_job(once: Idempotency) -> None:
    assert ask(once, None).id != ask(once, None).id


def test_the_same_request_with_its_key_answers_the_job_as_it_is_by_now(once: Idempotency) -> None:
    first = ask(once, "k")
    once.jobs.interrupt(first.id)
    assert ask(once, "k") == once.jobs.get(first.id)
    assert ask(once, "other").id != first.id
    assert len(once.jobs.all()) == 2


@pytest.mark.parametrize(("body", "route"), [('{"a": 1}', "POST /v1/x"), ("{}", "POST /v1/y")])
def test_a_key_that_came_with_another_request_is_refused(once: Idempotency, body: str, route: str) -> None:
    first = ask(once, "k")
    with pytest.raises(Invalid, match=first.id):
        ask(once, "k", body, route)
    assert len(once.jobs.all()) == 1


def test_of_many_copies_at_once_one_begins_a_job_and_all_get_it(once: Idempotency) -> None:
    with ThreadPoolExecutor(16) as pool:
        jobs = list(pool.map(lambda _: ask(once, "k"), range(48)))
    assert {job.id for job in jobs} == {once.jobs.all()[0].id}
    assert len(once.jobs.all()) == 1


def test_a_refused_request_leaves_its_key_free(once: Idempotency) -> None:
    def refuse(_record: Recorder) -> Job:
        raise Conflict("not now")

    with pytest.raises(Conflict, match="not now"):
        once.once("k", "POST /v1/x", "{}", refuse)
    assert ask(once, "k").id


def test_a_job_that_was_not_made_is_not_remembered(once: Idempotency) -> None:
    """As when the process dies between its decision and its transaction: the key must not answer a job nobody has."""

    def die(record: Recorder) -> Job:
        pipe = transaction(once.redis)
        record(pipe, once.jobs.create(pipe, kind=JobKind.DEPLOY, name="n", subject="x"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once.once("k", "POST /v1/x", "{}", die)
    assert [ask(once, "k")] == once.jobs.all()


def test_a_key_is_forgotten_after_a_day(once: Idempotency) -> None:
    ask(once, "k")
    (name,) = once.redis.keys("hearth:idempotency:*")
    assert KEPT_SECONDS - 10 < once.redis.ttl(name) <= KEPT_SECONDS == 24 * 3600


def test_a_copy_does_not_wait_forever_for_the_first(once: Idempotency, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_PATIENCE_SECONDS", 0.2)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(record: Recorder) -> Job:
        begun.set()
        assert go_on.wait(30)
        return begin(once.jobs, record)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(once.once, "k", "POST /v1/x", "{}", slowly)
        assert begun.wait(30)
        with pytest.raises(Conflict, match="being worked on"):
            ask(once, "k")
        go_on.set()
        assert first.result(30) == ask(once, "k")
