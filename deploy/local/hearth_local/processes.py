"""Processes of a platform as the kernel knows them: what they take, and that they are gone."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from hearth_jobs.guard import descendants, relatives

POLL_SECONDS = 0.1


def memory_of_tree(pid: int) -> int:
    """Bytes of a process and all below it."""
    return memory({pid, *descendants(pid)})


def memory_of_marked(mark: str) -> int:
    """Bytes of all processes with this mark."""
    return memory(relatives(mark))


def memory(pids: set[int]) -> int:
    """Bytes of these processes, what they share counted once (proportional set size)."""
    return sum(_pss(pid) for pid in pids)


def _pss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def await_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


@contextmanager
def alone(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock `path`; `on_wait` is called when another holds it. The kernel drops it when the process ends."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def last_lines(path: Path, count: int) -> str:
    """The end of a log, indented."""
    if not path.exists():
        return "    (no log)"
    lines = path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"
