"""The desk: an actor between a run's driver and its processes on the cluster.

The driver alone writes what is to last, on the disk that it shares with the training worker; Ray's nodes know neither
S3 nor Redis. What goes over the desk goes by value and in order, and waits there until there is room: what was told is
not lost with the node that told it.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from hearth_contracts.finetune import TrainerEvent

PIECE_BYTES = 32 * 2**20
MESSAGES_WAITING = 8


@dataclass(frozen=True)
class Piece:
    """The next bytes of a file; `path` is relative to the run's folder."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Said:
    """An event, after all pieces that belong to it."""

    event: TrainerEvent
    checkpoints: frozenset[int]  # the steps whose checkpoints the first process keeps


Message = Piece | Said | None
"""None: there is no more to come."""


@ray.remote(num_cpus=0)
class Desk:
    """One for each time that processes are started."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue(MESSAGES_WAITING)
        self._stop = asyncio.Event()

    async def tell(self, message: Message) -> None:
        """For the processes, and for the driver's None; returns once there is room for it."""
        await self._messages.put(message)

    async def hear(self) -> Message:
        """For the driver: the next one, once there is one."""
        return await self._messages.get()

    async def stop(self) -> None:
        """Ask the processes to stop."""
        self._stop.set()

    async def asked_to_stop(self) -> None:
        """Return once somebody asks."""
        await self._stop.wait()


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes; one empty piece for an empty file."""
    with path.open("rb") as file:
        yield file.read(PIECE_BYTES)
        while data := file.read(PIECE_BYTES):
            yield data
