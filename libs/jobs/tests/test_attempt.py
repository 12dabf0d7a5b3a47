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
from hearth_jobs import oom, owners
from hearth_jobs.attempt import Attempt, WorkFailed, with_attempt
from hearth_jobs.store import JobStore
from hearth_telemetry import traces
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.contextvars import bound_contextvars, get_contextvars
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from tests.support.collector import Collector
from tests.support.servers import free_port, valkey


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


def test_the_logs_of_the_work_name_the_job_and_the_request_that_made_it(store: JobStore, tmp_path: Path) -> None:
    pipe = store.redis.pipeline(transaction=True)
    with bound_contextvars(request_id="asked-1"):
        job = store.create(pipe, kind=JobKind.FINETUNE, name="FT_a_b", subject="s")
    pipe.execute()
    seen: list[dict[str, object]] = []
    with_attempt(store, job.id, tmp_path / "log", lambda _attempt: seen.append(get_contextvars()))
    assert seen == [{"job_id": job.id, "request_id": "asked-1"}]
    assert get_contextvars() == {}


def test_each_attempt_is_a_span_of_the_trace_that_made_the_job(
    store: JobStore, collector: Collector, tmp_path: Path
) -> None:
    def stopped(attempt: Attempt) -> None:
        traces.event("checkpoint", {"step": 5})
        attempt.stop_worker()
        attempt.wait(10)

    def failing(_attempt: Attempt) -> None:
        raise WorkFailed("row 3 says: secret")

    pipe = store.redis.pipeline(transaction=True)
    with traces.span("asking", "server", {}, {}):
        job = store.create(pipe, kind=JobKind.FINETUNE, name="FT_a_b", subject="s")
    pipe.execute()
    with_attempt(store, job.id, tmp_path / "log", stopped)
    with_attempt(store, job.id, tmp_path / "log", failing)
    asking, first, second = collector.until(lambda spans: len(spans) == 3)
    assert first.parent_id == second.parent_id == asking.span_id
    assert [each.attributes["hearth.job.attempt"] for each in (first, second)] == [1, 2]
    assert [each.attributes["hearth.job.status"] for each in (first, second)] == ["given back", "FAILED"]
    assert (first.is_error, second.is_error) == (False, True)
    assert first.events == {"checkpoint": {"step": 5}}
    assert not any(b"secret" in body for body in collector.bodies)


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


def test_work_that_needs_a_redis_that_is_away_is_given_back_and_not_failed(
    store: JobStore, job: Job, tmp_path: Path
) -> None:
    def body(_: Attempt) -> None:
        raise RedisTimeoutError("Timeout reading from socket")

    with_attempt(store, job.id, tmp_path / "log", body)
    given_back = store.get(job.id)
    assert (given_back.status, given_back.stage) == (JobStatus.RUNNING, "waiting: Redis was away")
    with_attempt(store, job.id, tmp_path / "log", lambda _: None)
    assert store.get(job.id).status is JobStatus.FINISHED


def test_a_process_that_fails_is_quoted(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(attempt: Attempt) -> None:
        code = "import sys; print('tensor trouble', file=sys.stderr); raise SystemExit(3)"
        list(attempt.lines(python(code), env=os.environ, grace=1))

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).error == "the process ended with code 3: tensor trouble"


def killed(attempt: Attempt) -> None:
    list(attempt.lines(python("import os; os.kill(os.getpid(), 9)"), env=os.environ, grace=1))


def test_a_process_that_somebody_killed_leaves_the_job_to_whoever_counts_its_deaths(
    store: JobStore, job: Job, tmp_path: Path
) -> None:
    with_attempt(store, job.id, tmp_path / "log", killed)
    (held,) = store.running()
    assert (held.job.status, held.owner) == (JobStatus.RUNNING, str(owners.this_process()))
    assert "somebody killed the process (code 137)" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("after", "words"), [("oom_kill 8", ", for want of"), ("", ", most likely for want of")])
def test_a_process_that_the_kernel_killed_is_said_to_have_wanted_memory(
    store: JobStore, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, words: str
) -> None:
    # The kernel's count is a file of ours here: to make it kill one process and no other takes a control group.
    count = tmp_path / "vmstat"
    count.write_text("oom_kill 7")
    monkeypatch.setattr(oom, "VMSTAT", count)

    def body(attempt: Attempt) -> None:
        code = f"import os; open({str(count)!r}, 'w').write({after!r}); os.kill(os.getpid(), 9)"
        list(attempt.lines(python(code), env=os.environ, grace=1))

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.FAILED
    assert f"was killed (code 137){words} memory" in str(store.get(job.id).error)


def test_a_full_disk_is_called_so(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(_: Attempt) -> None:
        with Path("/dev/full").open("w") as full:  # every write to it says that the disk is full
            full.write("x")

    with_attempt(store, job.id, tmp_path / "log", body)
    assert store.get(job.id).status is JobStatus.FAILED
    assert str(store.get(job.id).error).startswith("the disk is full: free some space")


def test_a_process_that_met_a_full_disk_fails_with_the_remedy(store: JobStore, job: Job, tmp_path: Path) -> None:
    def body(attempt: Attempt) -> None:
        list(attempt.lines(python("print('x', file=open('/dev/full', 'w'), flush=True)"), env=os.environ, grace=1))

    with_attempt(store, job.id, tmp_path / "log", body)
    assert str(store.get(job.id).error).startswith("the disk is full: free some space")


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


def test_a_killed_worker_leaves_no_process_and_is_proven_gone_before_its_lease_ends(
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
    (held,) = store.running()
    owner = owners.parse(held.owner)
    assert owner is not None
    eventually(lambda: owners.is_gone(owner) is True)
    assert not psutil.pid_exists(pid)
    assert not held.lapsed


def begin(redis: Redis) -> tuple[JobStore, Job]:
    store = JobStore(redis)
    pipe = redis.pipeline(transaction=True)
    job = store.create(pipe, kind=JobKind.FINETUNE, name="FT_a_b", subject="s")
    pipe.execute()
    return store, job


def test_a_redis_that_hangs_does_not_starve_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guard must hear from the worker though the lease cannot be renewed."""
    monkeypatch.setattr("hearth_jobs.attempt.GUARD_HEARTBEAT_SECONDS", 2.0)
    with valkey(tmp_path / "valkey") as redis:
        store, job = begin(redis)
        server = psutil.Process(redis.info("server")["process_id"])

        def body(attempt: Attempt) -> None:
            lines = attempt.lines(python("import time; print(1, flush=True); time.sleep(5)"), env=os.environ, grace=1)
            for _ in lines:
                server.suspend()
            server.resume()

        with_attempt(store, job.id, tmp_path / "log", body)
        assert store.get(job.id).status is JobStatus.FINISHED


def test_work_that_ends_while_redis_is_away_is_recorded_once_it_is_back(tmp_path: Path) -> None:
    port, back = free_port(), threading.Event()

    def server_that_comes_back() -> None:
        assert back.wait(60)
        with valkey(tmp_path / "valkey", port):
            assert over.wait(60)

    over = threading.Event()
    with valkey(tmp_path / "valkey", port) as redis:
        store, job = begin(redis)
        server = psutil.Process(redis.info("server")["process_id"])

        def body(_: Attempt) -> None:
            server.kill()
            server.wait()
            threading.Timer(2, back.set).start()

        helper = threading.Thread(target=server_that_comes_back)
        helper.start()
        with_attempt(store, job.id, tmp_path / "log", body)
        assert store.get(job.id).status is JobStatus.FINISHED
        over.set()
        helper.join()


def test_work_that_does_not_heed_an_interrupt_ends_with_its_process(
    store: JobStore, job: Job, redis_url: str, tmp_path: Path
) -> None:
    code = f"""
        import time
        from pathlib import Path
        from redis import Redis
        from hearth_jobs import attempt
        from hearth_jobs.store import JobStore
        attempt.STUCK_SECONDS = 0.5
        def body(_):
            print("stuck", flush=True)
            time.sleep(600)
        attempt.with_attempt(JobStore(Redis.from_url({redis_url!r})), {job.id!r}, Path({str(tmp_path / "log")!r}), body)
    """
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "stuck\n"
        assert store.interrupt(job.id).status is JobStatus.RUNNING
        assert worker.wait(15) == 1
    (left,) = store.running()
    assert store.expire(left, None, "", proven=True) is JobStatus.KILLED
