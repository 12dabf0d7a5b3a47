"""Talking to the worker: one JSON object a line, on a standard output that nobody else may write to."""

import os
import sys
from typing import TextIO

from pydantic import BaseModel


class EventStream:
    """The real standard output. What libraries print goes to standard error, which is the job's log."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(self, event: BaseModel) -> None:
        """Write an event. Where several processes train together, the first speaks for all."""
        if os.environ.get("RANK", "0") != "0":
            return
        self._out.write(event.model_dump_json() + "\n")
        self._out.flush()
