"""Who holds a job: a process, named so that another process of the same machine can prove that it is gone.

A name is `host:pid:started@space`: `started` (clock ticks since boot) tells it from a later process of the same number,
`space` (boot and pid namespace) says who can look it up. Across machines nothing can be proved: there a lease must do.
"""

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hearth_jobs.guard import kill_all, relatives, started, started_by


@dataclass(frozen=True)
class Owner:
    """A process somewhere."""

    host: str
    pid: int
    started: str
    space: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started}@{self.space}"

    @property
    def mark(self) -> str:
        """What everything that it started under a guard has in its environment."""
        return started_by(self.pid, self.started)


def this_process() -> Owner:
    """The process that asks."""
    return Owner(socket.gethostname(), os.getpid(), started(os.getpid()) or "", _space())


def parse(name: str) -> Owner | None:
    """The owner that a name tells of; None for one that is no name of ours."""
    process, _, space = name.partition("@")
    match process.rsplit(":", 2):
        case [host, pid, since] if pid.isdigit() and space:
            return Owner(host, int(pid), since, space)
    return None


def lives(owner: Owner) -> bool | None:
    """Whether the process itself lives; None when it is not on this machine."""
    if owner.space != _space():
        return None
    return started(owner.pid) == owner.started


def is_gone(owner: Owner) -> bool | None:
    """Whether the process and all that it started are gone; None when it is not on this machine."""
    alive = lives(owner)
    return None if alive is None else not alive and not relatives(owner.mark)


def kill_remains(owner: Owner) -> None:
    """SIGKILL what a dead process of this machine left behind, until nothing is."""
    if lives(owner) is False:
        kill_all(lambda: relatives(owner.mark))


@cache
def _space() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
