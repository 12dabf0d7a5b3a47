"""The process that brings a model into this node's store, and what it says."""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hearth_contracts.deploy import DeploymentSpec
from hearth_jobs.attempt import WorkFailed, last_words
from hearth_jobs.config import GUARD_HEARTBEAT_SECONDS
from hearth_jobs.guard import end, guarded
from hearth_models.bring import Order
from hearth_models.events import EVENT, Fetched, Progress, Refusal, environment, seconds_left
from hearth_storage.config import HomeSettings

from hearth_inference.adapters import StoreAway

_GRACE_SECONDS = 3.0
_MINUTE = 60.0


class ModelMissing(WorkFailed):
    """This node has not got the model, and could not get it; another may have it."""


class HubAway(ModelMissing):
    """The hub does not answer, or has a fault of its own: what has served before waits for it."""


class Bringing:
    """The process that brings a model. Start it from the thread that lives as long as it should."""

    def __init__(self, spec: DeploymentSpec, order: Order, home: HomeSettings) -> None:
        """Begin. Raises OSError."""
        self.spec = spec
        self._is_from_s3 = order.urls is not None
        self.log = home.job_log(spec.job_id)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        run = home.home.absolute() / "run"
        run.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=run, prefix="bring-", delete=False, encoding="utf-8") as file:
            file.write(order.model_dump_json())  # for us alone to read: addresses in it open files in S3
        self._order = Path(file.name)
        try:
            self._process = self._begin(order, home)
        except OSError:
            self._order.unlink()
            raise
        self._began = time.monotonic()
        self._first: int | None = None
        self._progress = Progress(done=0, total=0)
        self._last: Fetched | Refusal | None = None
        self._stdin_lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="bring", daemon=True)
        self._reader.start()

    def _begin(self, order: Order, home: HomeSettings) -> "subprocess.Popen[Any]":
        with self.log.open("ab") as errors:
            return guarded(
                [sys.executable, "-m", "hearth_models.bring", str(self._order), str(home.models)],
                grace=_GRACE_SECONDS,
                heartbeat=GUARD_HEARTBEAT_SECONDS,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(order),
            )

    def feed(self) -> None:
        """Show the guard that the node is alive and not hung; call it more often than the heartbeat."""
        with self._stdin_lock, contextlib.suppress(BrokenPipeError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def interrupt(self, job_id: str) -> None:
        """Somebody asked for a job to end. The main thread waits for nothing here, and sees it."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._reader.is_alive()

    @property
    def share(self) -> float:
        """How much of it is here, from 0 to 1."""
        return self._progress.done / self._progress.total if self._progress.total else 0.0

    def words(self) -> str:
        """How far it is, for a user."""
        left = None
        if self._first is not None:
            left = seconds_left(self._progress, self._first, time.monotonic() - self._began)
        when = (
            ""
            if left is None
            else ", less than a minute left"
            if left < _MINUTE
            else f", about {left / _MINUTE:.0f} min left"
        )
        return f"fetching {self.spec.model_id}: {100 * self.share:.0f} %{when}"

    @property
    def died(self) -> bool:
        """Whether it ended without a word."""
        return self.is_over and self._last is None

    def result(self) -> None:
        """See how it ended. Raises ModelMissing, HubAway, StoreAway."""
        last = self._last
        if isinstance(last, Refusal):
            if last.is_away:
                raise StoreAway(last.reason) if self._is_from_s3 else HubAway(last.reason)
            raise ModelMissing(last.reason)
        if last is None:
            raise ModelMissing(f"{self.spec.model_id} did not come, the process ended: {last_words(self.log)}")

    def stop(self) -> None:
        """End it and every process of it; nothing is left when this returns. What came is kept for the next try."""
        end(self._process, _GRACE_SECONDS)
        self._reader.join()
        with self._stdin_lock, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._order.unlink(missing_ok=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = EVENT.validate_json(line)
            if isinstance(event, Progress):
                self._first = event.done if self._first is None else self._first
                self._progress = event
            else:
                self._last = event


def _environment(order: Order) -> dict[str, str]:
    """S3 is reached as ever, not through a proxy that leads to the hub, and where the hub is not to be asked, too; its
    signed addresses are in no log.
    """
    env = environment()
    if order.urls is None:
        return env
    return {name: value for name, value in env.items() if not name.lower().endswith("_proxy")} | {
        "HF_HUB_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "0",
    }
