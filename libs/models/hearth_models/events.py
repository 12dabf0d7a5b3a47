"""What a process that brings a model says of itself: one JSON object a line on its standard output."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from hearth_contracts.base import Frozen
from hearth_contracts.models import ModelFile
from pydantic import Field, TypeAdapter

_NOT_FOR_THE_CHILD = ("HEARTH_REDIS_URL", "HEARTH_S3_ACCESS_KEY", "HEARTH_S3_SECRET_KEY", "OTEL_EXPORTER_OTLP_HEADERS")


class Progress(Frozen):
    """Bytes so far."""

    event: Literal["progress"] = "progress"
    done: int
    total: int


class Fetched(Frozen):
    """Every file is in `snapshots/<revision>`."""

    event: Literal["fetched"] = "fetched"
    revision: str
    size_bytes: int
    license: str | None
    on_hub: bool
    files: tuple[ModelFile, ...]


class Refusal(Frozen):
    """Why not."""

    event: Literal["refused"] = "refused"
    reason: str
    is_away: bool = Field(default=False, description="the hub or S3 does not answer, or has a fault of its own")


FetchEvent = Annotated[Progress | Fetched | Refusal, Field(discriminator="event")]
EVENT: TypeAdapter[FetchEvent] = TypeAdapter(FetchEvent)
"""Reads a line."""


def say(event: Progress | Fetched | Refusal) -> None:
    """Print an event."""
    print(event.model_dump_json(), flush=True)


@contextmanager
def reporting(measure: Callable[[], Progress]) -> Iterator[None]:
    """Say twice a second how far it is."""
    over = threading.Event()

    def report() -> None:
        while not over.wait(0.5):
            say(measure())

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        say(measure())


def environment() -> dict[str, str]:
    """The environment of such a process: no secrets but the hub's token, and no progress bars among its words."""
    env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_THE_CHILD}
    env["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return env


def seconds_left(event: Progress, first: int, seconds: float) -> float | None:
    """Seconds left at the speed that brought it from `first` bytes to these in `seconds`, once it has one."""
    brought = event.done - first
    return None if brought <= 0 else (event.total - event.done) * seconds / brought
