"""From the event loop that receives a body to the thread that checks and stores it."""

import asyncio
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

from fastapi import Request
from hearth_contracts.errors import BadRequest
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from hearth_dataset.decoding import decoded

MOST_AHEAD = 16
"""Pieces that were received and not yet read; a piece is 256 KiB at most, uvloop's buffer."""

Taken = TypeVar("Taken")


async def stream_to(request: Request, take: Callable[[Iterator[bytes]], Taken]) -> Taken:
    """What `take` makes of the request's body, unpacked, which it reads in a thread of its own while it arrives."""
    pieces = Pieces()

    def work() -> Taken:
        try:
            return take(decoded(pieces.iterate(), request.headers.get("content-encoding", "").lower()))
        finally:
            pieces.close()

    taking = asyncio.ensure_future(run_in_threadpool(work))
    try:
        async for piece in request.stream():
            await pieces.put(piece)
        pieces.end()
    except ClientDisconnect:
        pieces.end(BadRequest("the upload was cut off by its client"))
    except BaseException:  # the server is being stopped: the thread must not wait for more
        pieces.end(BadRequest("the upload was cut off"))
        raise
    return await taking


class Pieces:
    """A bounded queue from an event loop to a thread.

    A full one is filled again when half of it has been read: to wake each other for every piece would cost more than
    all else.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[bytes | Exception | None] = SimpleQueue()
        self._room = asyncio.Event()
        self._full = False
        self._closed = False

    async def put(self, piece: bytes) -> None:
        """Hand over a piece; waits while the reader is behind."""
        if self._closed:
            return
        self._queue.put(piece)
        if self._queue.qsize() < MOST_AHEAD:
            return
        self._room.clear()
        self._full = True  # from here on the reader tells
        if self._queue.qsize() > MOST_AHEAD // 2 and not self._closed:
            await self._room.wait()

    def end(self, why: Exception | None = None) -> None:
        """There will be no more, and why if that is not its end."""
        self._queue.put(why)

    def iterate(self) -> Iterator[bytes]:
        """The pieces, in order. Raises what was given as the reason that there are no more."""
        while (piece := self._queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            if self._full and self._queue.qsize() <= MOST_AHEAD // 2:
                self._tell()
            yield piece

    def close(self) -> None:
        """The reader wants no more: whoever puts is let go."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        self._full = False
        self._loop.call_soon_threadsafe(self._room.set)
