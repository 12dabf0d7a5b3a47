"""Jobs by the page, on a real server: what a page shows, and how little is read for it."""

from datetime import UTC, datetime, timedelta

import pytest
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs import keys
from hearth_jobs.listing import CHUNK, CursorUnknown, Wanted, list_jobs
from hearth_jobs.queues import transaction
from hearth_jobs.store import JobStore
from redis import Redis

ALL = Wanted()


@pytest.fixture
def store(redis: Redis) -> JobStore:
    return JobStore(redis)


def make(store: JobStore, count: int, kind: JobKind = JobKind.DOWNLOAD) -> list[Job]:
    """Jobs, the newest first."""
    pipe = transaction(store.redis)
    jobs = [store.create(pipe, kind=kind, name=f"JOB_{number}", subject="x") for number in range(count)]
    pipe.execute()
    return jobs[::-1]


def read(redis: Redis) -> int:
    """How many records of jobs the server was asked for so far."""
    return int(redis.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])


def test_pages_hold_every_job_once_although_more_begin_meanwhile(store: JobStore) -> None:
    jobs = make(store, 7)
    seen: list[Job] = []
    page = list_jobs(store, ALL, limit=3)
    seen += page.jobs
    while page.next:
        make(store, 2)
        page = list_jobs(store, ALL, limit=3, cursor=page.next)
        seen += page.jobs
    assert seen == jobs


def test_the_last_page_says_that_it_is_the_last(store: JobStore) -> None:
    jobs = make(store, 4)
    page = list_jobs(store, ALL, limit=4)
    assert (page.jobs, page.next) == (jobs, None)
    assert list_jobs(store, ALL, limit=4, cursor=jobs[-1].id).jobs == []


def test_a_page_of_ten_thousand_jobs_reads_the_page_alone(store: JobStore) -> None:
    jobs = make(store, 10_000)
    before = read(store.redis)
    page = list_jobs(store, ALL, limit=20, cursor=jobs[4999].id)
    assert page.jobs == jobs[5000:5020]
    assert read(store.redis) - before == 21  # and one more, to know whether there is a next page


def test_a_filter_reads_on_until_the_page_is_full_and_no_further(store: JobStore) -> None:
    make(store, 2, JobKind.DEPLOY)
    deploys = make(store, 3, JobKind.DEPLOY)
    make(store, 2 * CHUNK)
    page = list_jobs(store, Wanted(kinds=frozenset({JobKind.DEPLOY})), limit=3)
    assert page.jobs == deploys
    rest = list_jobs(store, Wanted(kinds=frozenset({JobKind.DEPLOY})), limit=3, cursor=page.next)
    assert (len(rest.jobs), rest.next) == (2, None)


def test_statuses_are_filtered(store: JobStore) -> None:
    third, second, first = make(store, 3)
    store.interrupt(second.id)
    store.claim(first.id, "worker")

    def named(*statuses: JobStatus) -> list[str]:
        return [job.id for job in list_jobs(store, Wanted(statuses=frozenset(statuses))).jobs]

    assert named(JobStatus.KILLED) == [second.id]
    assert named(JobStatus.CREATED, JobStatus.RUNNING) == [third.id, first.id]
    assert named(JobStatus.FAILED) == []


def test_since_includes_its_own_moment_and_reads_nothing_older(store: JobStore) -> None:
    jobs = make(store, CHUNK + 5)
    before = read(store.redis)
    assert list_jobs(store, Wanted(since=jobs[2].created_at)).jobs == jobs[:3]
    assert read(store.redis) - before == 3
    assert list_jobs(store, Wanted(since=datetime.now(UTC) + timedelta(days=1))).jobs == []


def test_a_cursor_that_is_no_job_is_refused(store: JobStore) -> None:
    with pytest.raises(CursorUnknown):
        list_jobs(store, ALL, cursor="nobody")


def test_a_record_that_is_gone_is_left_out(store: JobStore) -> None:
    jobs = make(store, 3)
    store.redis.delete(keys.job(jobs[1].id))
    assert list_jobs(store, ALL).jobs == [jobs[0], jobs[2]]
