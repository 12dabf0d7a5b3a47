"""How much memory is free for another engine."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(cgroup: Path = _CGROUP) -> int:
    """What can be taken without swapping: the machine's, or less where a container has a limit of its own."""
    machine = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        reclaimable = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return machine
    if limit == "max":
        return machine
    return min(machine, int(limit) - used + int(reclaimable.get("inactive_file", 0)))
