"""Talking to the worker: one JSON object a line, on a standard output that nobody else may write to."""

import os
import signal
import sys
from typing import Protocol, TextIO

from pydantic import BaseModel


class Owner(Protocol):
    """Whoever a run is done for: it hears how the run goes, and may ask it to stop."""

    @property
    def asks_to_stop(self) -> bool:
        """Whether it has asked, since `heed` was called."""

    def heed(self) -> None:
        """From now on the run saves a checkpoint before it stops; before that it may be ended at once."""

    def say(self, event: BaseModel) -> None:
        """Tell it. Where several processes train together each calls this, and the first is heard."""


class EventStream:
    """The real standard output. What libraries print goes to standard error, which is the job's log."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self.asks_to_stop = False

    def heed(self) -> None:
        """SIGTERM asks to stop."""
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, *_: object) -> None:
        self.asks_to_stop = True

    def say(self, event: BaseModel) -> None:
        """Write an event. Where several processes train together, the first speaks for all."""
        if os.environ.get("RANK", "0") != "0":
            return
        self._out.write(event.model_dump_json() + "\n")
        self._out.flush()
