"""An RQ worker that stops when told to, and whose work-horse never outlives it."""

import ctypes
import os
import signal
import socket

from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

_PR_SET_PDEATHSIG = 1


class HearthWorker(Worker):
    """RQ's forking worker with two changes.

    Told to stop, it tells its work-horse too, which gives the job's lease back: RQ would wait for the job's end,
    which for a deployment is never. Killed, its work-horse dies with it: RQ would leave it working, unseen, while
    the next worker takes another job.
    """

    def handle_warm_shutdown_request(self) -> None:
        """Pass the request on to the work-horse."""
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def setup_work_horse_signals(self) -> None:
        """In the work-horse, right after the fork: die when the worker dies."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self.pid:  # it died before the call above
            os._exit(1)


def work(redis: Redis, queue: str, name: str) -> None:
    """Take items from `queue` until told to stop. `name` shows in `status`; host and pid make it unique."""
    lane = Queue(queue, connection=redis, serializer=JSONSerializer)
    worker = HearthWorker(
        [lane],
        name=f"{name}@{socket.gethostname()}-{os.getpid()}",
        connection=redis,
        serializer=JSONSerializer,
        worker_ttl=60,
        job_monitoring_interval=15,
        log_job_description=False,
    )
    worker.work(logging_level="WARNING", with_scheduler=False)
