"""From the event loop that receives a body to the thread that checks and stores it."""

import asyncio
import queue
from collections.abc import Callable, Iterator
from typing import TypeVar

from fastapi import Request
from hearth_contracts.errors import BadRequest
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from hearth_dataset.decoding import decoded

PIECES_AHEAD = 16
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
            if not pieces.put_at_once(piece):
                await run_in_threadpool(pieces.put, piece)
        await run_in_threadpool(pieces.put, None)
    except ClientDisconnect:
        await run_in_threadpool(pieces.put, BadRequest("the upload was cut off by its client"))
    return await taking


class Pieces:
    """A bounded queue between the event loop that receives and the thread that checks and stores."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | Exception | None] = queue.Queue(PIECES_AHEAD)
        self._closed = False

    def put_at_once(self, piece: bytes) -> bool:
        """Hand over a piece if that needs no waiting: a thread for each would cost more than all else."""
        if not self._closed:
            try:
                self._queue.put_nowait(piece)
            except queue.Full:
                return False
        return True

    def put(self, piece: bytes | Exception | None) -> None:
        """Hand over a piece, None for the end, or why there will be no more; waits while the reader is behind."""
        while not self._closed:
            try:
                self._queue.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue

    def iterate(self) -> Iterator[bytes]:
        """The pieces, in order. Raises what was handed over instead of one."""
        while (piece := self._queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        """The reader wants no more: whoever puts is let go."""
        self._closed = True
