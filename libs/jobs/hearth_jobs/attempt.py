"""One attempt at a job, as its worker sees it: claim, work under a lease, and end in one of the ways a job can.

    def run(job_id):
        with_attempt(store, job_id, body)

`body` gets an `Attempt` and works. It returns: FINISHED. It raises WorkFailed: FAILED with those words. An
interrupt ends its processes and it raises Interrupted: KILLED. The worker is told to stop: the lease is given
back, and the job goes on when a worker is there again.

While Redis is away the work goes on, and how it ended is recorded when Redis is back. Work that does not heed its end
in time is stuck: then the process ends itself, and the reconciler ends the job once nothing of it is left.
"""

import contextlib
import errno
import logging
import os
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from pathlib import Path
from types import FrameType

from hearth_contracts.jobs import JobStatus
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.contextvars import bound_contextvars

from hearth_jobs.config import GUARD_HEARTBEAT_SECONDS, RENEW_SECONDS, STUCK_SECONDS
from hearth_jobs.guard import end, guarded
from hearth_jobs.oom import oom_kills, wanted_memory
from hearth_jobs.owners import this_process
from hearth_jobs.store import ClaimRefused, JobMissing, JobStore, StaleAttempt
from hearth_jobs.traced import attempting

log = logging.getLogger(__name__)


class WorkFailed(Exception):
    """The work cannot be done; the message says what happened and what to do, in the user's terms."""


class OutOfMemory(WorkFailed):
    """The kernel killed the process for want of memory, or may have: where nobody can tell, that is likeliest."""


class WorkKilled(Exception):
    """Somebody killed the work's process, and not for want of memory: it is to be tried again, as after a crash."""


class Interrupted(Exception):
    """Somebody asked for the job to end."""


class WorkerStopping(Exception):
    """This worker is being stopped; the job is not."""


class LeaseLost(Exception):
    """Another attempt holds the job now; nothing more may be written."""


_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""The exit codes of a process that was killed -9: as its parent sees it, and as a guard or shell says it."""
NO_ROOM = "the disk is full: free some space and begin again"


class Attempt:
    """A claimed job. One thread renews the lease and listens for interrupts, another feeds the guards of its processes:
    a Redis that hangs must not starve them.
    """

    def __init__(self, store: JobStore, job_id: str, number: int, log_path: Path) -> None:
        self.store = store
        self.job_id = job_id
        self.number = number
        self.log_path = log_path
        self._reason: type[Exception] | None = None
        self._over = threading.Event()
        self._woken = threading.Condition()
        self._children: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._grace = 0.0  # the longest that a process of it was promised, seconds
        self._threads = [
            threading.Thread(
                target=copy_context().run, args=(self._repeat, step), name=f"{name}-{job_id[:8]}", daemon=True
            )
            for name, step in (("lease", self._renew), ("guards", self._feed_guards))
        ]

    def report(self, progress: float | None = None, stage: str | None = None, eta_seconds: float | None = None) -> None:
        """Say how far the work is. Lost reports are no harm: Redis being away does not stop the work."""
        try:
            self.store.report(self.job_id, self.number, progress=progress, stage=stage, eta_seconds=eta_seconds)
        except StaleAttempt as error:
            self._end(LeaseLost)
            raise LeaseLost(str(error)) from error
        except (RedisConnectionError, RedisTimeoutError):
            log.warning("progress of job %s not recorded: Redis is away", self.job_id)

    def check(self) -> None:
        """Raise what the attempt is to end with, if it is to end."""
        if self._reason is not None:
            raise self._reason

    def wait(self, seconds: float) -> None:
        """Wait, but raise at once when the attempt is to end."""
        with self._woken:
            self._woken.wait_for(lambda: self._reason is not None, timeout=seconds)
        self.check()

    @property
    def is_stopped(self) -> bool:
        """Whether it is the worker that is to stop."""
        return self._reason is WorkerStopping

    def log(self, line: str) -> None:
        """Add a line to the job's log, where the disk has room for it."""
        with contextlib.suppress(OSError), self.log_path.open("a", encoding="utf-8") as out:
            out.write(line.rstrip("\n") + "\n")

    def lines(
        self, command: Sequence[str], *, env: Mapping[str, str], grace: float, cwd: Path | None = None
    ) -> Iterator[str]:
        """Run a process under a guard and give its standard output line by line; its standard error goes to the log.

        On an interrupt the whole process group is asked to end, given `grace` seconds, and killed; then Interrupted
        is raised here. Raises WorkFailed, with the last words of its log, when it exits with another code than 0;
        OutOfMemory or WorkKilled when it was killed.
        """
        self.check()
        with self.log_path.open("a", encoding="utf-8") as errors:
            child = guarded(
                command,
                grace=grace,
                heartbeat=GUARD_HEARTBEAT_SECONDS,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(env),
                cwd=cwd,
                text=True,
            )
            yield from self.follow(child, grace)

    def follow(self, child: "subprocess.Popen[str]", grace: float) -> Iterator[str]:
        """`lines`, of a guarded process that runs already: from now on this attempt feeds its guard, and ends it."""
        kills = oom_kills()
        with self._lock:
            self._children.append(child)
            self._grace = max(self._grace, grace)
        try:
            if self._reason is not None:  # it came before the child's entry in the list
                child.terminate()
            assert child.stdout is not None
            yield from child.stdout
            child.wait()
        finally:
            code = end(child, grace)
            with self._lock:
                self._children.remove(child)
            for pipe in (child.stdout, child.stdin):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):  # a heartbeat that nobody read any more
                    pipe.close()
        self.check()
        if code != 0:
            raise _failure(code, wanted_memory(kills), last_words(self.log_path))

    # -- the threads -----------------------------------------------------------------------------------------

    def __enter__(self) -> "Attempt":
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def stop_worker(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        """Signal handler: the worker is to stop."""
        self._end(WorkerStopping)

    def _end(self, reason: type[Exception]) -> None:
        if self._reason is None:
            self._reason = reason
            # From a signal handler the main thread may hold these locks itself: a helper thread takes them.
            threading.Thread(target=self._end_children, daemon=True).start()

    def _end_children(self) -> None:
        with self._woken:
            self._woken.notify_all()
        with self._lock:
            for child in self._children:
                child.terminate()
        if not self._over.wait(self._grace + STUCK_SECONDS):
            log.error("job %s does not heed its end; this process ends with all that it started", self.job_id)
            os._exit(1)

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self._over.wait(RENEW_SECONDS / 2):
            try:
                step()
            except Exception:  # a thread that ended would leave the job without a lease, and deaf to an interrupt
                log.exception("job %s: the %s stumbled; it goes on", self.job_id, threading.current_thread().name)

    def _renew(self) -> None:
        try:
            if self.store.renew(self.job_id, self.number):
                self._end(Interrupted)
        except StaleAttempt:
            if not self._over.is_set():
                log.warning("lost the lease of job %s; ending its processes", self.job_id)
                self._end(LeaseLost)
        except (RedisConnectionError, RedisTimeoutError):
            log.warning("lease of job %s not renewed: Redis is away", self.job_id)

    def _feed_guards(self) -> None:
        """Show each guard that this worker is alive and not hung."""
        with self._lock:
            children = list(self._children)
        for child in children:
            try:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()
            except (BrokenPipeError, ValueError):
                pass  # it has just ended; whoever reads its output will notice


def with_attempt(store: JobStore, job_id: str, log_path: Path, body: Callable[[Attempt], None]) -> None:
    """Claim the job, run `body`, and record how it ended. Returns quietly when the job is not to be had."""
    origin = store.origin(job_id)
    try:
        number = store.claim(job_id, str(this_process()))
    except (ClaimRefused, JobMissing) as refusal:
        log.info("left alone: %s", refusal)
        return
    with (
        bound_contextvars(job_id=job_id, request_id=origin.request_id),
        attempting(origin, job_id, number) as span,
        Attempt(store, job_id, number, log_path) as attempt,
    ):
        log.info("attempt %d begins", number)
        signal.signal(signal.SIGTERM, attempt.stop_worker)
        try:
            status, words = _outcome(attempt, body)
            _record(attempt, status, words)
            span.outcome(status)
        except WorkKilled as killed:
            # Nothing is recorded: this worker ends, and whoever judges the dead counts the attempt, and ends the job
            # when there were too many.
            attempt.log(str(killed))
            log.warning("attempt %d at job %s: %s", number, job_id, killed)
        except (LeaseLost, StaleAttempt) as stale:
            log.warning("attempt %d at job %s is no longer the current one: %s", number, job_id, stale)


def _outcome(attempt: Attempt, body: Callable[[Attempt], None]) -> tuple[JobStatus | None, str | None]:
    """Run `body`: how the job ends, and the words for it; (None, None) when it is to be given back."""
    try:
        body(attempt)
        attempt.check()
        return JobStatus.FINISHED, None
    except Interrupted:
        return JobStatus.KILLED, None
    except WorkerStopping:
        return None, None
    except (RedisConnectionError, RedisTimeoutError) as away:
        log.warning("job %s is given back, to be taken up again: %s", attempt.job_id, away)
        return None, None
    except WorkFailed as failure:
        attempt.log(f"FAILED: {failure}")
        return JobStatus.FAILED, str(failure)
    except (LeaseLost, StaleAttempt, WorkKilled):
        raise
    except Exception as error:
        attempt.log(traceback.format_exc())
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return JobStatus.FAILED, f"{NO_ROOM} ({error.filename or attempt.log_path.parent})"
        log.exception("job %s failed in a way nobody foresaw", attempt.job_id)
        words = f"unexpected {type(error).__name__}: {error}. This is a bug in Hearth; see the job's log"
        return JobStatus.FAILED, words


def _record(attempt: Attempt, status: JobStatus | None, words: str | None) -> None:
    """Write how it ended, when Redis is back if it is away: done work must not be begun anew.

    Raises StaleAttempt; LeaseLost when another attempt has begun meanwhile.
    """
    store, job_id, number = attempt.store, attempt.job_id, attempt.number
    while True:
        stopped = status is None and attempt.is_stopped
        try:
            if status is None:
                store.release(job_id, number, f"waiting: {'its worker was stopped' if stopped else 'Redis was away'}")
            else:
                store.finish(job_id, number, status, words)
            return
        except (RedisConnectionError, RedisTimeoutError):
            log.warning("the end of job %s is not recorded yet: Redis is away", job_id)
            if stopped:
                raise  # whoever stops this worker does not wait; the lease ends by itself
            time.sleep(RENEW_SECONDS)


def _failure(code: int, wanted_memory: bool | None, words: str) -> Exception:
    """What to raise of a process that ended so, with what to do where that is known."""
    said = f"the last it said: {words}"
    if code in _KILLED:
        if wanted_memory is False:
            return WorkKilled(f"somebody killed the process (code 137); {said}")
        likely = "" if wanted_memory else "most likely "
        return OutOfMemory(f"the process was killed (code 137), {likely}for want of memory; {said}")
    if os.strerror(errno.ENOSPC) in words:
        return WorkFailed(f"{NO_ROOM}; {said}")
    return WorkFailed(f"the process ended with code {code}: {words}")


def last_words(path: Path, limit: int = 600) -> str:
    """The end of a log, for an error message: its last lines that say something, on one line."""
    if not path.exists():
        return "(it wrote no log)"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-limit:] or "(it wrote no log)"
