"""An RQ worker that stops when told to, outlives a Redis that is away, and whose work-horse never outlives it."""

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import threading

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from hearth_jobs.config import SILENT_SECONDS

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PULSE_SECONDS = 1.0
_MONITOR_SECONDS = 15  # between the entries in RQ's own books


class HearthWorker(Worker):
    """RQ's forking worker with four changes.

    Told to stop, it tells its work-horse too, which gives the job's lease back: RQ would wait for the job's end,
    which for a deployment is never. Killed, its work-horse dies with it: RQ would leave it working, unseen, while
    the next worker takes another job. A work-horse that is frozen is killed before its lease ends, so that it can not
    wake up beside the next attempt. While Redis is away both live on: RQ's worker would quit at its next heartbeat.
    """

    max_connection_wait_time = 2.0  # RQ would look for Redis once a minute only

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Fork, and watch the child's pulse."""
        hears, self._beats = os.pipe()
        super().fork_work_horse(job, queue)
        os.close(self._beats)  # here only: the child never returns from the call above
        threading.Thread(target=_watch, args=(hears, self.horse_pid), name="pulse", daemon=True).start()

    def setup_work_horse_signals(self) -> None:
        """In the work-horse, right after the fork: die when the worker dies, show life while it lives."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.pid:  # it died before the call above
            os._exit(1)
        threading.Thread(target=_beat, args=(self._beats,), name="pulse", daemon=True).start()

    def handle_warm_shutdown_request(self) -> None:
        """Pass the request on to the work-horse."""
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

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


def work(redis: Redis, queue: str, name: str) -> None:
    """Take items from `queue` until told to stop. `name` shows in `status`; host and pid make it unique."""
    lane = Queue(queue, connection=redis, serializer=JSONSerializer)
    worker = HearthWorker(
        [lane],
        name=f"{name}@{socket.gethostname()}-{os.getpid()}",
        connection=redis,
        serializer=JSONSerializer,
        worker_ttl=60,
        job_monitoring_interval=_MONITOR_SECONDS,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING", with_scheduler=False)
