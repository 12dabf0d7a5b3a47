"""The job state machine under any order of events: workers that claim, work, freeze, die, and judges that bury.

Hypothesis drives one job on a real server. Time passes only where a rule says so: a lease ends when its holder is said
to have been silent. The model knows what is true (who works); the invariants are the promises of docs/guarantees.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs import keys
from hearth_jobs.store import ClaimRefused, JobStore, StaleAttempt
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

TERMINAL = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.KILLED)


@dataclass
class Worker:
    """One attempt as the world knows it."""

    number: int
    alive: bool = True


class JobLife(RuleBasedStateMachine):
    """One job, several workers, judges that may be late, and a user who may interrupt."""

    redis: Redis  # set by the test

    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        self.store = JobStore(self.redis)
        pipe = self.redis.pipeline(transaction=True)
        self.id = self.store.create(pipe, kind=JobKind.FINETUNE, name="FT", subject="s").id
        pipe.execute()
        self.attempts: list[Worker] = []
        self.over: Job | None = None
        self.interrupted = False
        self.deaths = 0
        self.progress = (0, 0.0)  # the attempt, and the most that it reported

    def job(self) -> Job:
        return self.store.get(self.id)

    def current(self) -> Worker | None:
        """Who holds the job, as the record has it."""
        return self.attempts[-1] if self.attempts and self.redis.hget(keys.job(self.id), "owner") else None

    def write(self, worker: Worker, action: Callable[[], Any]) -> Any:
        """A write must go through for the holder of a job that is not over, and for nobody else."""
        may = worker is self.current() and self.over is None
        try:
            reply = action()
        except StaleAttempt:
            assert not may
            return None
        assert may, "a fenced attempt wrote"
        return reply

    # -- workers

    @rule(target=workers)
    def claim(self) -> Worker:
        holder = self.current()
        worker = Worker(len(self.attempts) + 1)
        try:
            number = self.store.claim(self.id, f"worker {worker.number}")
        except ClaimRefused:
            assert holder is not None or self.over is not None or self.interrupted
            self.note_end()
            return Worker(-1, alive=False)  # never began
        assert holder is None, "two hold the job at once"
        assert self.over is None
        assert number == worker.number
        self.attempts.append(worker)
        self.progress = (number, 0.0)
        return worker

    @rule(worker=workers)
    def renew(self, worker: Worker) -> None:
        if worker.alive:
            asked = self.write(worker, lambda: self.store.renew(self.id, worker.number))
            assert asked in (None, self.interrupted)

    @rule(worker=workers, progress=st.floats(0, 1))
    def report(self, worker: Worker, progress: float) -> None:
        if worker.alive:
            self.write(worker, lambda: self.store.report(self.id, worker.number, progress=progress))

    @rule(worker=workers, status=st.sampled_from(TERMINAL))
    def finish(self, worker: Worker, status: JobStatus) -> None:
        if worker.alive:
            self.write(worker, lambda: self.store.finish(self.id, worker.number, status, "why"))
            self.note_end()

    @rule(worker=workers)
    def release(self, worker: Worker) -> None:
        if worker.alive:
            self.write(worker, lambda: self.store.release(self.id, worker.number, "stopped"))
            worker.alive = False

    @rule(worker=workers)
    def die(self, worker: Worker) -> None:
        worker.alive = False

    # -- the world

    @precondition(lambda self: self.current() is not None)
    @rule()
    def lease_ends(self) -> None:
        """Redis was away, or the holder was frozen or is dead."""
        self.redis.hset(keys.job(self.id), "lease_until_ms", "1")
        self.redis.zadd(keys.ACTIVE_JOBS, {self.id: 1}, xx=True)

    @rule(last=st.booleans(), proof=st.booleans())
    def judge(self, last: bool, proof: bool) -> None:
        """A reconciler: with proof it buries at once, without it trusts leases, and a holder that lives is fenced."""
        held = next(iter(self.store.running()), None)
        if held is None or not held.owner:
            return
        worker = self.attempts[-1]
        proven = proof and not worker.alive
        outcome = self.store.expire(held, JobStatus.FAILED if last else None, "words", proven=proven)
        assert (outcome is not None) == (held.lapsed or proven)
        if outcome is not None:
            assert self.store.expire(held, None, "a second judge", proven=True) is None
            self.deaths += outcome is JobStatus.RUNNING
            assert outcome is (
                JobStatus.KILLED if self.interrupted else JobStatus.FAILED if last else JobStatus.RUNNING
            )
        self.note_end()

    @rule()
    def interrupt(self) -> None:
        holder = self.current()
        job = self.store.interrupt(self.id)
        self.interrupted = self.interrupted or self.over is None
        if self.over is None:
            assert job.status is (JobStatus.RUNNING if holder else JobStatus.KILLED)
        self.note_end()

    def note_end(self) -> None:
        job = self.job()
        if job.status.is_over and self.over is None:
            self.over = job

    # -- promises

    @invariant()
    def a_terminal_state_never_changes(self) -> None:
        if self.over is not None:
            assert self.job() == self.over

    @invariant()
    def it_is_listed_as_active_until_it_is_over(self) -> None:
        active = [job.id for job in self.store.active()]
        assert active == ([] if self.job().status.is_over else [self.id])

    @invariant()
    def it_is_never_lost(self) -> None:
        """It is over, queued, held by somebody, or waits where the reconciler looks."""
        job = self.job()
        waits = any(not held.owner for held in self.store.running())
        assert job.status.is_over or job.status is JobStatus.CREATED or waits or self.current() is not None

    @invariant()
    def progress_never_goes_back_within_an_attempt(self) -> None:
        job = self.job()
        attempt, most = self.progress
        assert job.attempt == attempt
        assert job.progress >= most
        self.progress = (attempt, job.progress)

    @invariant()
    def only_deaths_are_counted(self) -> None:
        for held in self.store.running():
            assert held.deaths == self.deaths


@pytest.mark.timeout(180)
def test_the_promises_hold_in_any_order_of_events(redis: Redis) -> None:
    JobLife.redis = redis
    run_state_machine_as_test(
        JobLife,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes against a real server
        ),
    )
