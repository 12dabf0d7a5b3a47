"""Whether the kernel took a process for want of memory, or somebody else killed it: its exit tells the same of both."""

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def oom_kills() -> int | None:
    """How many processes this machine's kernel has killed for want of memory, in control groups too, since it started.

    The count `oom_kill` of proc_vmstat(5). None where there is none to be read.
    """
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return None
    return next((int(count) for name, _, count in (line.partition(" ") for line in lines) if name == "oom_kill"), None)


def wanted_memory(before: int | None) -> bool | None:
    """Whether the kernel has killed for want of memory since `oom_kills` gave `before`; None when nobody can tell."""
    after = oom_kills()
    return None if before is None or after is None else after > before
