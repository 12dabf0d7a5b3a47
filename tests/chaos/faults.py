"""What is done to a process."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from hearth_local import supervisor

from tests.chaos.processes import find
from tests.chaos.world import World

FREEZE_SECONDS = 14.0
"""Longer than a lease, so that a frozen worker wakes up when its work is another's, if it wakes up at all."""
OUTAGE_SECONDS = 20.0
FULL_SECONDS = 20.0


@dataclass(frozen=True)
class Fault:
    """One kind of fault: `inflict` gives what undoes it, or None when there was nothing to hit."""

    name: str
    inflict: Callable[[World, str], Callable[[], None] | None]


def _nothing() -> None:
    """A dead process is not brought back by us."""


def _kill(world: World, name: str) -> Callable[[], None] | None:
    process = find(world, name)
    if process is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    return _nothing


def _freeze(world: World, name: str) -> Callable[[], None] | None:
    """SIGSTOP now, SIGCONT later."""
    process = find(world, name)
    if process is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
    waking = threading.Timer(FREEZE_SECONDS, _wake, [process])
    waking.start()
    return waking.join


def _hang(world: World, name: str) -> Callable[[], None] | None:
    """SIGSTOP, and nobody wakes it."""
    process = find(world, name)
    if process is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
    return _nothing


def _wake(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def _outage(world: World, name: str) -> Callable[[], None] | None:
    """A store that does not answer for a while: its connections stay open."""
    process = find(world, name)
    if process is None:
        return None
    process.suspend()
    waking = threading.Timer(OUTAGE_SECONDS, _wake, [process])
    waking.start()
    return waking.join


def _stop(world: World, name: str) -> Callable[[], None]:
    """A store that is stopped, and started again after a while: its port refuses meanwhile."""
    with supervisor.rpc(world.platform.config) as rpc:
        rpc.stopProcess(name)
    starting = threading.Timer(OUTAGE_SECONDS, _start, [world, name])
    starting.start()
    return starting.join


def _start(world: World, name: str) -> None:
    with supervisor.rpc(world.platform.config) as rpc:
        rpc.startProcess(name, False)


def _fill(world: World, _: str) -> Callable[[], None] | None:
    """The disk that holds all of the platform's data has not a byte left, for a while."""
    if world.home_bytes is None:
        return None
    ballast = world.home / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(2**16))
    freeing = threading.Timer(FULL_SECONDS, ballast.unlink)
    freeing.start()
    return freeing.join


KILL = Fault("kill -9", _kill)
FREEZE = Fault("frozen for 14 s", _freeze)
HANG = Fault("frozen for good", _hang)
OUTAGE = Fault("frozen for 20 s", _outage)
STOP = Fault("stopped for 20 s", _stop)
FULL = Fault("full for 20 s", _fill)
