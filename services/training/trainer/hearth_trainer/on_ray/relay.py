"""What the processes on the cluster tell, passed on by the driver as if it trained itself: files first, then words."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import ray
from hearth_contracts.finetune import CheckpointEvent, DoneEvent, RunSpec, StageEvent

from hearth_trainer.events import EventStream
from hearth_trainer.on_ray.desk import Message, Piece, Said

TRAINING = StageEvent(stage="training")


class Relay:
    """Hears one desk, in a thread of its own, until `close`."""

    def __init__(self, spec: RunSpec, events: EventStream, desk: Any, scratch: Path) -> None:
        self.has_stopping_point = False  # from the first step on it can save a checkpoint before it stops
        self._spec = spec
        self._events = events
        self._desk = desk
        self._arriving = scratch
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._hear, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take what has been told so far, and no more. Raises what went wrong with it."""
        ray.get(self._desk.tell.remote(None))
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _hear(self) -> None:
        try:
            while (message := ray.get(self._desk.hear.remote())) is not None:
                self._take(message)
        except BaseException as failure:
            self._failure = failure
            ray.get(self._desk.stop.remote())
            while ray.get(self._desk.hear.remote()) is not None:  # nobody is to wait for room at the desk
                pass

    def _take(self, message: Message) -> None:
        match message:
            case Piece(path, data):
                arriving = self._arriving / path
                arriving.parent.mkdir(parents=True, exist_ok=True)
                with arriving.open("ab") as file:
                    file.write(data)
            case Said(event, checkpoints):
                if isinstance(event, CheckpointEvent):
                    self._checkpoint(event.step, checkpoints)
                elif isinstance(event, DoneEvent):
                    _put(self._arriving / "adapter", Path(self._spec.output_dir))
                elif event == TRAINING:
                    self.has_stopping_point = True
                self._events.say(event)

    def _checkpoint(self, step: int, kept: frozenset[int]) -> None:
        """Keep what the first process keeps, and what was there before until that is so."""
        folder = Path(self._spec.work_dir) / "checkpoints"
        _put(self._arriving / "checkpoints" / f"checkpoint-{step}", folder / f"checkpoint-{step}")
        for path in folder.glob("checkpoint-*"):
            if int(path.name.partition("-")[2]) not in kept | {step}:
                shutil.rmtree(path)


def _put(arrived: Path, path: Path) -> None:
    """Give what is whole now its name: it is found whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(arrived, path)
