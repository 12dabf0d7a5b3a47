"""A sign of life once a second to the guard above this process: it ends one that hangs, and the supervisor starts it
again (`hearth_jobs.guard`, `--pulse`).
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

PULSE = "HEARTH_PULSE"


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Beat from the event loop while the block lasts, where a guard listens to this very process."""
    guard, _, pipe = os.environ.get(PULSE, "").partition(":")
    if guard != str(os.getppid()):
        yield
        return
    task = asyncio.create_task(_beat(int(pipe)), name="pulse")
    try:
        yield
    finally:
        task.cancel()


async def _beat(pipe: int) -> None:
    while True:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the guard is frozen, or gone
            os.write(pipe, b".")
        await asyncio.sleep(1)
