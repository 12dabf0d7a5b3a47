"""An RQ worker that stops when told to, outlives a Redis that is away, and whose work-horse never outlives it.

The work-horse may be made ready before its job comes.
"""

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus
from rq.worker_registration import register

from hearth_jobs.config import SILENT_SECONDS
from hearth_jobs.guard import started
from hearth_jobs.state import refuse_newer

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PULSE_SECONDS = 1.0
_DEQUEUE_SECONDS = 5
_MONITOR_SECONDS = 15  # between the entries in RQ's own books


@dataclass(frozen=True)
class _Standby:
    """A work-horse that was forked before there is a job for it, and the pipe on which it waits for one."""

    pid: int
    orders: int


class HearthWorker(Worker):
    """RQ's forking worker with seven changes.

    Told to stop, it tells its work-horse too, which gives the job's lease back: RQ would wait for the job's end,
    which for a deployment is never. And it does stop, though a fork's hooks swallow RQ's exception. Killed, its
    work-horse dies with it: RQ would leave it working, unseen, while the next worker takes another job. A
    work-horse that is frozen is killed before its lease ends, so that it can not wake up beside the next attempt. While
    Redis is away both live on: RQ's worker would quit at its next heartbeat; and the worker is listed again
    afterwards, which RQ forgets to do for one whose entry has expired. With `make_ready`, the next
    work-horse is forked while there is no job, calls that function, and waits: what takes long and is the same for
    every job is paid before the job comes.
    """

    max_connection_wait_time = 2.0  # RQ would look for Redis once a minute only
    make_ready: Callable[[], None] | None = None
    says: Callable[[], Mapping[str, str]] = dict
    _standby: _Standby | None = None
    _is_tied = False

    def work(self, *arguments: Any, **options: Any) -> bool:
        """Take jobs until told to stop."""
        self._fork_standby()
        try:
            return bool(super().work(*arguments, **options))
        finally:
            self._end_standby()

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Do one, and make the next work-horse ready."""
        super().execute_job(job, queue)
        self._fork_standby()

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Give the job to the work-horse that stands by; where none does, fork one. Watch its pulse."""
        if self._hand_over(job):
            return
        hears, self._beats = os.pipe()
        super().fork_work_horse(job, queue)
        os.close(self._beats)  # here only: the child never returns from the call above
        threading.Thread(target=_watch, args=(hears, self.horse_pid), name="pulse", daemon=True).start()

    def setup_work_horse_signals(self) -> None:
        """In the work-horse, right after the fork: die when the worker dies, show life while it lives."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        if self._is_tied:  # it stood by
            return
        self._is_tied = True
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.pid:  # it died before the call above
            os._exit(1)
        threading.Thread(target=_beat, args=(self._beats,), name="pulse", daemon=True).start()

    def handle_warm_shutdown_request(self) -> None:
        """Pass the request on to the work-horse."""
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def _fork_standby(self) -> None:
        if self.make_ready is None:
            return
        orders, write_end = os.pipe()
        hears, self._beats = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write_end)
            os.setpgrp()
            self._stand_by(orders)
        for end in (orders, self._beats):
            os.close(end)
        self._standby = _Standby(pid, write_end)
        threading.Thread(target=_watch, args=(hears, pid), name="pulse", daemon=True).start()

    def _stand_by(self, orders: int) -> None:
        """The whole life of a work-horse that was forked early. It never returns."""
        with contextlib.suppress(BaseException), os.fdopen(orders) as pipe:
            self.setup_work_horse_signals()
            assert self.make_ready is not None
            try:
                self.make_ready()
            except Exception:
                log.exception("the next job starts cold")
            if line := pipe.readline():
                order = json.loads(line)
                job = Job.fetch(order["job"], connection=self.connection, serializer=self.serializer)
                self.execution = Execution(order["execution"], job.id, connection=self.connection)
                self.main_work_horse(job, next(queue for queue in self.queues if queue.name == job.origin))
        os._exit(0)

    def _hand_over(self, job: Job) -> bool:
        """Whether a work-horse stood by and has the job now."""
        standby, self._standby = self._standby, None
        if standby is None or self.execution is None:
            return False
        try:
            os.write(standby.orders, json.dumps({"job": job.id, "execution": self.execution.id}).encode() + b"\n")
        except BrokenPipeError:
            log.warning("the work-horse that stood by has died")
            os.waitpid(standby.pid, 0)
            return False
        finally:
            os.close(standby.orders)
        self._horse_pid = standby.pid
        return True

    def _end_standby(self) -> None:
        if self._standby is not None:
            os.close(self._standby.orders)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._standby.pid, signal.SIGTERM)
            os.waitpid(self._standby.pid, 0)
            self._standby = None

    def serialize(self) -> dict[Any, Any]:
        """Its entry in RQ's registry, with what it says of itself by now (`hearth_jobs.alive`)."""
        return {**super().serialize(), **self.says()}

    @property
    def dequeue_timeout(self) -> int:
        """Seconds to wait for a job before the next heartbeat."""
        return _DEQUEUE_SECONDS

    def _shutdown(self) -> None:
        """Remember it: the exception that RQ raises out of its signal handler is lost where a fork runs its hooks."""
        self._stop_requested = True
        super()._shutdown()  # type: ignore[no-untyped-call]

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ calls this before it waits for a job, and while one is done."""
        if self._stop_requested and self.get_state() == WorkerStatus.IDLE:
            raise StopRequested
        super().heartbeat(timeout, pipeline)
        register(self, pipeline)
        if pipeline is None and self.birth_date is not None:  # with one, RQ looks whether the entry is whole
            self.connection.hset(self.key, mapping=self.serialize())

    def maintain_heartbeats(self, job: Job) -> None:
        """RQ's own book-keeping, which nobody of us reads: it can wait while Redis is away."""
        try:
            super().maintain_heartbeats(job)
        except RedisError as error:
            log.warning("Redis is away; the work goes on: %s", error)

    def set_current_job_working_time(self, current_job_working_time: float, pipeline: Pipeline | None = None) -> None:
        """As above."""
        with contextlib.suppress(RedisError):
            super().set_current_job_working_time(current_job_working_time, pipeline)


def _beat(pipe: int) -> None:
    over = threading.Event()
    with contextlib.suppress(OSError):  # the worker is gone, and this process about to be
        while not over.wait(_PULSE_SECONDS):
            os.write(pipe, b".")


def _watch(pipe: int, horse: int) -> None:
    """Until the work-horse ends, or is silent for too long and is killed, with its process group."""
    try:
        while True:
            heard, _, _ = select.select([pipe], [], [], SILENT_SECONDS)
            if heard and not os.read(pipe, 4096):
                return  # it has ended
            if not heard:
                log.error("work-horse %d showed no life for %.0f s and is killed", horse, SILENT_SECONDS)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(horse, signal.SIGKILL)
                return
    finally:
        os.close(pipe)


def unique(name: str) -> str:
    """A worker's name in RQ, which takes none twice within two minutes: with its host, its process id, and its start.

    In a container that was killed and started again the process has the same id.
    """
    return f"{name}@{socket.gethostname()}-{os.getpid()}-{started(os.getpid())}"


def work(
    redis: Redis,
    queues: Sequence[str],
    name: str,
    make_ready: Callable[[], None] | None = None,
    says: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Take items from `queues`, the first that has any, until told to stop. `name` shows in `status`.

    `make_ready` is called in each work-horse before its job comes; `says` gives what others are to know of this worker.
    """
    refuse_newer(redis)
    worker = HearthWorker(
        [Queue(queue, connection=redis, serializer=JSONSerializer) for queue in queues],
        name=unique(name),
        connection=redis,
        serializer=JSONSerializer,
        worker_ttl=60,
        job_monitoring_interval=_MONITOR_SECONDS,
        log_job_description=False,
    )
    worker.make_ready = make_ready
    worker.says = says
    worker.work(logging_level="WARNING", with_scheduler=False)
