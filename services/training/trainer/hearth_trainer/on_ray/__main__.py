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
from collections.abc import Callable
from pathlib import Path

from hearth_contracts.finetune import StageEvent

from hearth_trainer.events import EventStream
from hearth_trainer.on_ray.drive import FAILED, LOST, STOPPED, drive

MOST_LOSSES = 3
"""So many times a driver is begun again."""
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
    while True:
        code = drivers.run(lambda: drive(events, address, path, patience, gpus))
        if code != LOST or drivers.stopping or losses == MOST_LOSSES:
            return 1 if code == FAILED else code
        losses += 1
        events.say(StageEvent(stage="the Ray cluster was lost; waiting for it to begin anew"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if sys.argv[4:] else None))
