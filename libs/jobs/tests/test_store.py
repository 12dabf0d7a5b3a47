"""The job state machine, on a real server."""

import pytest
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs.store import ClaimRefused, JobMissing, JobStore, StaleAttempt
from redis import Redis


@pytest.fixture
def store(redis: Redis) -> JobStore:
    return JobStore(redis)


@pytest.fixture
def job(store: JobStore) -> Job:
    return make_job(store)


def make_job(store: JobStore, name: str = "DOWNLOAD_test") -> Job:
    pipe = store.redis.pipeline(transaction=True)
    job = store.create(pipe, kind=JobKind.DOWNLOAD, name=name, subject="test")
    pipe.execute()
    return job


def test_a_new_job_is_created_and_reads_back_as_it_was_made(store: JobStore, job: Job) -> None:
    assert store.get(job.id) == job
    assert job.status is JobStatus.CREATED
    assert store.all() == [job]


def test_a_job_of_an_unknown_id_is_missing(store: JobStore) -> None:
    with pytest.raises(JobMissing):
        store.get("nothing")
    with pytest.raises(JobMissing):
        store.claim("nothing", "me")
    with pytest.raises(JobMissing):
        store.interrupt("nothing")


def test_only_one_worker_holds_a_job(store: JobStore, job: Job) -> None:
    assert store.claim(job.id, "first") == 1
    with pytest.raises(ClaimRefused, match="held: first"):
        store.claim(job.id, "second")


def test_an_ended_lease_proves_nothing_until_its_holder_is_buried_and_then_fences_it(store: JobStore, job: Job) -> None:
    first = store.claim(job.id, "first", lease=0)
    with pytest.raises(ClaimRefused, match="held: first"):
        store.claim(job.id, "second")
    store.expire(store.running()[0], None, "waiting")
    second = store.claim(job.id, "second")
    assert (first, second) == (1, 2)
    for write in (
        lambda: store.report(job.id, first, progress=0.9),
        lambda: store.renew(job.id, first),
        lambda: store.finish(job.id, first, JobStatus.FINISHED),
    ):
        with pytest.raises(StaleAttempt):
            write()
    assert store.get(job.id).status is JobStatus.RUNNING


@pytest.mark.parametrize("end", [JobStatus.FINISHED, JobStatus.FAILED, JobStatus.KILLED])
def test_a_terminal_state_never_changes(store: JobStore, job: Job, end: JobStatus) -> None:
    attempt = store.claim(job.id, "me")
    store.finish(job.id, attempt, end, "why" if end is JobStatus.FAILED else None)
    over = store.get(job.id)
    with pytest.raises(StaleAttempt):
        store.finish(job.id, attempt, JobStatus.FINISHED)
    with pytest.raises(ClaimRefused):
        store.claim(job.id, "other")
    assert store.interrupt(job.id) == over
    assert store.active() == []


def test_progress_never_goes_back_within_an_attempt_and_starts_anew_in_the_next(store: JobStore, job: Job) -> None:
    attempt = store.claim(job.id, "me")
    store.report(job.id, attempt, progress=0.75)
    store.report(job.id, attempt, progress=0.5, stage="b")
    assert (store.get(job.id).progress, store.get(job.id).stage) == (0.75, "b")
    store.release(job.id, attempt, "waiting")
    store.claim(job.id, "me")
    assert store.get(job.id).progress == 0


def test_an_interrupted_queued_job_is_killed_at_once(store: JobStore, job: Job) -> None:
    assert store.interrupt(job.id).status is JobStatus.KILLED
    with pytest.raises(ClaimRefused, match="KILLED"):
        store.claim(job.id, "late")


def test_the_holder_learns_of_an_interrupt_when_it_renews(store: JobStore, job: Job) -> None:
    attempt = store.claim(job.id, "me")
    assert store.renew(job.id, attempt) is False
    assert store.interrupt(job.id).status is JobStatus.RUNNING
    assert store.renew(job.id, attempt) is True


def test_a_released_job_waits_and_can_be_interrupted_at_once(store: JobStore, job: Job) -> None:
    attempt = store.claim(job.id, "me")
    store.release(job.id, attempt, "waiting: its worker was stopped")
    assert [found.job.id for found in store.expired()] == [job.id]
    assert store.interrupt(job.id).status is JobStatus.KILLED


def test_what_runs_though_nobody_holds_it_is_killed_by_its_judge_or_by_whom_it_runs_under(
    store: JobStore, job: Job
) -> None:
    store.release(job.id, store.claim(job.id, "me"), "waiting")
    assert store.interrupt(job.id, runs=True).status is JobStatus.RUNNING
    attempt = store.claim(job.id, "another", runs=True)
    assert store.renew(job.id, attempt) is True
    store.release(job.id, attempt, "stopping")
    (found,) = store.expired()
    assert store.expire(found, JobStatus.FINISHED, "") is JobStatus.KILLED


def test_an_expired_attempt_waits_for_another_or_fails_with_words(store: JobStore, job: Job) -> None:
    store.claim(job.id, "me", lease=0)
    (found,) = store.expired()
    assert (found.subject, found.owner) == ("test", "me")
    assert store.expire(found, None, "waiting for another attempt") is JobStatus.RUNNING
    store.claim(job.id, "me", lease=0)
    (found,) = store.expired()
    assert store.expire(found, JobStatus.FAILED, "its worker died 3 times") is JobStatus.FAILED
    assert store.get(job.id).error == "its worker died 3 times"


def test_deaths_are_counted_and_a_stopped_worker_is_none(store: JobStore, job: Job) -> None:
    for deaths in range(3):
        store.release(job.id, store.claim(job.id, "stopped"), "waiting")
        attempt = store.claim(job.id, "dies", lease=0)
        (found,) = store.running()
        assert (found.deaths, found.lapsed, found.owner) == (deaths, True, "dies")
        store.expire(found, None, "waiting")
    attempt = store.claim(job.id, "does well")
    store.steady(job.id, attempt)
    assert store.running()[0].deaths == 0


def test_an_owner_that_is_proven_gone_is_buried_before_its_lease_ends(store: JobStore, job: Job) -> None:
    store.claim(job.id, "me")
    (held,) = store.running()
    assert store.expire(held, None, "waiting") is None
    assert store.expire(held, None, "waiting", proven=True) is JobStatus.RUNNING
    assert store.expire(held, None, "waiting", proven=True) is None  # another judge was there first
    assert store.claim(job.id, "next") == 2


def test_a_held_lease_does_not_expire(store: JobStore, job: Job) -> None:
    store.claim(job.id, "me")
    assert store.expired() == []
    assert store.expire(store.running()[0], JobStatus.FAILED, "no") is None


def test_an_interrupt_before_the_lease_ended_makes_the_expired_job_killed(store: JobStore, job: Job) -> None:
    store.claim(job.id, "me", lease=0.2)
    store.interrupt(job.id)
    while not (found := store.expired()):
        pass
    assert store.expire(found[0], None, "waiting") is JobStatus.KILLED


def test_jobs_are_listed_newest_first(store: JobStore) -> None:
    jobs = [make_job(store, f"DOWNLOAD_{n}") for n in range(3)]
    assert [job.name for job in store.all()] == [job.name for job in reversed(jobs)]
