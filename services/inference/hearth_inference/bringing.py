"""The process that brings a model into this node's store, and what it says."""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from hearth_contracts.deploy import DeploymentSpec
from hearth_jobs.attempt import WorkFailed, last_words
from hearth_models.bring import Order
from hearth_models.events import EVENT, Fetched, Progress, Refusal, environment, seconds_left
from hearth_storage.config import HomeSettings

from hearth_inference.adapters import StoreAway
from hearth_inference.guarded import GuardedProcess

_GRACE_SECONDS = 3.0
_ORDER = "bring-"
_READ_SECONDS = 60.0
"""An order is read as soon as the process runs; one that is older is left over."""
_MINUTE = 60.0


class ModelMissing(WorkFailed):
    """This node has not got the model, and could not get it; another may have it."""


class HubAway(ModelMissing):
    """The hub does not answer, or has a fault of its own: what has served before waits for it."""


class Bringing(GuardedProcess):
    """The process that brings a model."""

    def __init__(self, spec: DeploymentSpec, order: Order, home: HomeSettings) -> None:
        """Begin. Raises OSError."""
        self.spec = spec
        self._is_from_s3 = order.urls is not None
        self.log = home.job_log(spec.job_id)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._order = _write(order, home)
        try:
            with self.log.open("ab") as errors:
                super().__init__(
                    [sys.executable, "-m", "hearth_models.bring", str(self._order), str(home.models)],
                    grace=_GRACE_SECONDS,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=_environment(order),
                )
        except OSError:
            self._order.unlink()
            raise
        self._began = time.monotonic()
        self._first: int | None = None
        self._progress = Progress(done=0, total=0)
        self._last: Fetched | Refusal | None = None
        self._reader = threading.Thread(target=self._read, name="bring", daemon=True)
        self._reader.start()

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

    def stop(self) -> int:
        """See GuardedProcess. What came is kept for the next try."""
        code = super().stop()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._order.unlink(missing_ok=True)
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = EVENT.validate_json(line)
            if isinstance(event, Progress):
                self._first = event.done if self._first is None else self._first
                self._progress = event
            else:
                self._last = event


def sweep_orders(home: HomeSettings) -> None:
    """Remove the orders that nobody will read any more, of nodes that were killed: addresses in them open files in S3.

    Another node of this home may just have written one.
    """
    for order in _folder(home).glob(f"{_ORDER}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - order.stat().st_mtime > _READ_SECONDS:
                order.unlink()


def _folder(home: HomeSettings) -> Path:
    return home.home.absolute() / "run"


def _write(order: Order, home: HomeSettings) -> Path:
    """The file with an order, for us alone to read."""
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=_ORDER, delete=False, encoding="utf-8") as file:
        file.write(order.model_dump_json())
    return Path(file.name)


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
