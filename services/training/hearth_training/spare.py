"""A trainer that has loaded its libraries, some ten seconds' work, before there is a job for it.

It is started by the work-horse that will use it, under a guard like any other: it ends with that process. It holds
memory while it waits (see docs/training.md) and does not touch a GPU. After each run the worker makes a new one ready.
"""

import contextlib
import json
import logging
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from hearth_jobs.config import GUARD_HEARTBEAT_SECONDS
from hearth_jobs.guard import guarded
from hearth_storage.config import HomeSettings

from hearth_training.command import gpus_here, trainer_env
from hearth_training.config import TrainingSettings

log = logging.getLogger(__name__)


class Spare:
    """The waiting process, and the pipe on which it waits."""

    def __init__(self, python: Path, grace: float, orders: Path, env: Mapping[str, str]) -> None:
        orders.parent.mkdir(parents=True, exist_ok=True)
        orders.unlink(missing_ok=True)
        os.mkfifo(orders, mode=0o600)
        self._orders = os.open(orders, os.O_RDWR)  # both ways, so that it never blocks; the trainer removes the file
        self._fed_by_other = threading.Event()
        self.process: subprocess.Popen[str] = guarded(
            [str(python), "-m", "hearth_trainer", "--wait", str(orders)],
            grace=grace,
            heartbeat=GUARD_HEARTBEAT_SECONDS,
            stdout=subprocess.PIPE,
            env=dict(env),
            text=True,
        )
        threading.Thread(target=self._feed, name="spare", daemon=True).start()

    def send(self, spec: Path, log_path: Path) -> "subprocess.Popen[str] | None":
        """Tell it what to train: the process, which is the caller's to feed from now on. None when it has died."""
        self._fed_by_other.set()
        if self.process.poll() is not None:
            log.warning("the trainer that stood by has died; the run starts cold")
            return None
        order = {"spec": str(spec), "log": str(log_path.absolute())}
        os.write(self._orders, json.dumps(order).encode() + b"\n")  # left open: it may not have opened its end yet
        return self.process

    def _feed(self) -> None:
        """Show the guard that its owner lives."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            while not self._fed_by_other.wait(1):
                self.process.stdin.write("\n")
                self.process.stdin.flush()


_spare: Spare | None = None


def make_ready() -> None:
    """Start the spare of this process, where the settings want one and one process is all that trains."""
    global _spare
    settings = TrainingSettings()
    local = settings.training_executor == "local" and gpus_here() <= 1
    if settings.trainer_warm and local and settings.trainer_python.exists():
        orders = HomeSettings().runs / f".spare-{os.getpid()}"
        _spare = Spare(settings.trainer_python.absolute(), settings.trainer_grace, orders, trainer_env())


def take_spare() -> Spare | None:
    """The spare of this process, if it has one; each is taken once."""
    global _spare
    spare, _spare = _spare, None
    return spare
