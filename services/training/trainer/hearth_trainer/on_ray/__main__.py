"""`python -m hearth_trainer.on_ray ADDRESS RUN.json PATIENCE [GPUS]`: as `python -m hearth_trainer RUN.json`, on Ray.

PATIENCE: seconds to wait for a cluster that does not answer. GPUS: how many each worker takes where the run does not
say; left out, 1 if the cluster has any.

The driver of a Ray job has the cluster train, and keeps on this machine's disk, and tells on standard output, what the
trainer does here. With it goes all that it started there: Ray ends a job whose driver is gone. And Ray ends a driver
whose cluster is gone, without a word to Python: so it is a process of its own here, and begun again.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from mmap import mmap
from pathlib import Path

from hearth_contracts.finetune import StageEvent

from hearth_trainer.events import EventStream
from hearth_trainer.on_ray.drive import FAILED, KNOCK_AGAIN_SECONDS, LOST, STOPPED, drive

MOST_LOSSES = 3
"""So many times a driver is begun again that had joined the cluster."""
GONE = {LOST, 1, 128 + signal.SIGABRT}
"""The exit codes of a driver whose cluster is gone.

Where Ray's own C++ sees it first it ends the process, without a word to Python: with 1 when the head has not answered
for a minute, or when nobody listens on the node's socket; elsewhere it aborts. What Python raises ends in neither.
"""
TERM = {signal.SIGTERM}


class Drivers:
    """One after the other, each a child of this process; who asks this one to stop asks the one that is at work."""

    def __init__(self) -> None:
        self.stopping = False
        self._pid = 0
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)  # it is there, or not yet waited for

    def run(self, work: Callable[[], int]) -> int:
        """Do it in a child; its exit code, of a signal as a shell says it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, TERM)  # until both heed it in their own ways
        if self.stopping:  # since the last one has ended: nobody told it, and the next one would not know
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TERM)
            return STOPPED
        self._pid = os.fork()
        if self._pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TERM)
            sys.exit(work())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERM)
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        pid, self._pid = self._pid, 0
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if code >= 0 else 128 - code


def main(address: str, path: Path, patience: float, gpus: int | None) -> int:
    """Run; the exit code is the trainer's own."""
    drivers, events, losses = Drivers(), EventStream(), 0
    joined = mmap(-1, 1)  # shared with the drivers
    waits_until = time.monotonic() + patience
    while True:
        joined[0] = 0
        code = drivers.run(partial(drive, events, address, path, waits_until - time.monotonic(), gpus, joined))
        enough = losses == MOST_LOSSES if joined[0] else time.monotonic() > waits_until
        if code not in GONE or drivers.stopping or enough:
            return 1 if code in {LOST, FAILED} else code
        sys.stderr.write(f"The driver's cluster is gone: it ended with {code}\n")
        if joined[0]:
            losses += 1
            waits_until = time.monotonic() + patience
            events.say(StageEvent(stage="the Ray cluster was lost; waiting for it to begin anew"))
        else:  # Ray ends a driver also where a node that it is about to join has just gone
            time.sleep(KNOCK_AGAIN_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if sys.argv[4:] else None))
