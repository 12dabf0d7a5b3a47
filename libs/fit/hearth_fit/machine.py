"""What this machine has: memory, GPUs, disk. All in bytes."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import pynvml

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Room:
    """How much there is of something, and how much of that is free."""

    total: int
    free: int

    def plus(self, freed: int) -> "Room":
        """The same, once so much more is free."""
        return Room(self.total, min(self.total, self.free + freed))


@dataclass(frozen=True)
class Machine:
    """The memory to compute with."""

    memory: Room
    gpus: tuple[Room, ...] = ()


def look() -> Machine:
    """This machine as it is right now."""
    return Machine(memory_room(), tuple(gpu_rooms()))


def memory_room(cgroup: Path = _CGROUP) -> Room:
    """What can be taken without swapping: the machine's, or less where a container has a limit of its own."""
    machine = psutil.virtual_memory()
    total, free = int(machine.total), int(machine.available)
    try:
        limit = int((cgroup / "memory.max").read_text())  # `max` where there is none
        used = int((cgroup / "memory.current").read_text())
        reclaimable = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return Room(total, free)
    return Room(min(total, limit), min(free, limit - used + int(reclaimable.get("inactive_file", 0))))


def gpu_rooms() -> list[Room]:
    """The memory of each NVIDIA GPU; empty where there is none, or no driver."""
    rooms: list[Room] = []
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            for index in range(pynvml.nvmlDeviceGetCount()):
                memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index))
                rooms.append(Room(int(memory.total), int(memory.free)))
        finally:
            pynvml.nvmlShutdown()
    return rooms


def disk_room(folder: Path) -> Room:
    """The disk that a folder lies on, or will lie on once it is made."""
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return Room(usage.total, usage.free)
