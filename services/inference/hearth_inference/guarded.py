"""A process of this node under a guard: one thread feeds the guard, another ends the process."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from hearth_jobs.config import GUARD_HEARTBEAT_SECONDS
from hearth_jobs.guard import end, guarded


class GuardedProcess:
    """Start it from the thread that lives as long as it should."""

    def __init__(self, command: Sequence[str], *, grace: float, **options: Any) -> None:
        """Begin; it gets `grace` seconds to end, and `options` are Popen's. Raises OSError."""
        self._grace = grace
        self._process = guarded(command, grace=grace, heartbeat=GUARD_HEARTBEAT_SECONDS, **options)
        self._stdin_lock = threading.Lock()

    def feed(self) -> None:
        """Show the guard that the node is alive and not hung; call it more often than the heartbeat."""
        with self._stdin_lock, contextlib.suppress(BrokenPipeError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def interrupt(self, job_id: str) -> None:
        """Somebody asked for a job to end. Whatever the main thread may be waiting for on its behalf is to end now."""

    def stop(self) -> int:
        """End it and every process of it; nothing is left when this returns. Returns its exit code."""
        code = end(self._process, self._grace)
        with self._stdin_lock, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        return code
