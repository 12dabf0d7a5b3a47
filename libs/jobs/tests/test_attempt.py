"""One attempt at a job: each way it can end, with real processes and a real server."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs.attempt import Attempt, WorkFailed, with_attempt
from hearth_jobs.store import JobStore
from redis import Redis
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed


@retry(retry=retry_if_result(lambda held: not held), stop=stop_after_delay(15), wait=wait_fixed(0.02))
def eventually(condition: Callable[[], bool]) -> bool:
    return condition()


@pytest.fixture
def store(redis: Redis) -> JobStore:
    return JobStore(redis)


@pytest.fixture
def job(store: JobStore) -> Job:
    pipe = store.redis.pipeline(transaction=True)
    job = store.create(pipe, kind=JobKind.FINETUNE, name="FT_a_b", subject="s")
    pipe.execute()
    return job


@pytest.fixture(autouse=True)
def own_signal_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


SLEEPER = python("""
    import os, time
    print(os.getpid(), flush=True)
    time.sleep(600)
""")


def test_work_that_returns_is_finished(store: JobStore, job: Job, tmp_path: Path) -> None:
    heard: list[str] = []

    def body(attempt: Attempt) -> None:
        heard.extend(attempt.lines(python("print('one'); print('two')"), env=os.environ, grace=1))

    with_attempt(store, job.id, tmp_path / "log", body)
    assert heard == ["one\n", "two\n"]
    assert (store.get(job.id).status, store.get(job.id).progress) == (JobStatus.FINISHED, 1)


def test_work_that_cannot_be_done_fails_with_its_words(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(_: Attempt) -> None:
        raise WorkFailed("the disk is full; free 3 GiB")

    with_attempt(store, job.id, tmp_path / "log", body)
    assert (store.get(job.id).status, store.get(job.id).error) == (JobStatus.FAILED, "the disk is full; free 3 GiB")


def test_a_process_that_fails_is_quoted(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(attempt: Attempt) -> None:
        code = "import sys; print('tensor trouble', file=sys.stderr); raise SystemExit(3)"
        list(attempt.lines(python(code), env=os.environ, grace=1))

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).error == "the process ended with code 3: tensor trouble"


def test_the_unforeseen_fails_the_job_and_its_log_has_the_details(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(_: Attempt) -> None:
        raise ZeroDivisionError("oops")

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.FAILED
    assert "unexpected ZeroDivisionError" in str(store.get(job.id).error)
    assert "Traceback" in (tmp_path / "log").read_text()


def test_an_interrupt_ends_the_processes_and_then_says_killed(store: JobStore, job: Job, tmp_path: Path) -> None:
    started: list[int] = []

    def body(attempt: Attempt) -> None:
        for line in attempt.lines(SLEEPER, env=os.environ, grace=1):
            started.append(int(line))
            store.interrupt(job.id)

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.KILLED
    assert not psutil.pid_exists(started[0])


def test_an_interrupt_wakes_work_that_waits(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(attempt: Attempt) -> None:
        threading.Thread(target=store.interrupt, args=[job.id]).start()
        attempt.wait(600)

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.KILLED


def test_a_stopped_worker_gives_the_job_back(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(attempt: Attempt) -> None:
        for _ in attempt.lines(SLEEPER, env=os.environ, grace=1):
            os.kill(os.getpid(), signal.SIGTERM)

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.RUNNING
    assert store.claim(job.id, "the next worker") == 2


def test_a_lost_lease_ends_the_processes_and_writes_nothing(store: JobStore, job: Job, tmp_path: Path) -> None:
    started: list[int] = []

    def body(attempt: Attempt) -> None:
        for line in attempt.lines(SLEEPER, env=os.environ, grace=1):
            started.append(int(line))
            store.release(job.id, 1, "taken away")
            store.claim(job.id, "another")

    with_attempt(store, job.id, tmp_path / "log", body)
    assert not psutil.pid_exists(started[0])
    assert (store.get(job.id).status, store.get(job.id).attempt) == (JobStatus.RUNNING, 2)


def test_a_job_that_is_over_is_left_alone(store: JobStore, job: Job, tmp_path: Path) -> None:
    store.interrupt(job.id)

    def body(_: Attempt) -> None:
        raise AssertionError("it must not begin")

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.KILLED


def test_a_killed_worker_leaves_no_process_and_its_lease_ends(
    store: JobStore, job: Job, redis_url: str, tmp_path: Path
) -> None:
    code = f"""
        import os, sys
        from pathlib import Path
        from redis import Redis
        from hearth_jobs.attempt import with_attempt
        from hearth_jobs.store import JobStore
        def body(attempt):
            for line in attempt.lines({SLEEPER!r}, env=os.environ, grace=1):
                print(line, flush=True)
        with_attempt(JobStore(Redis.from_url({redis_url!r})), {job.id!r}, Path({str(tmp_path / "log")!r}), body)
    """
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        worker.kill()
    eventually(lambda: not psutil.pid_exists(pid))
    eventually(lambda: [found.job.id for found in store.expired()] == [job.id])
