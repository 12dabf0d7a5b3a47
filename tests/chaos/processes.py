"""Every process of a platform by a name, as the kernel has it right now."""

import contextlib
from collections.abc import Callable

import psutil
from hearth_jobs.guard import relatives

from tests.chaos.world import World


def line_of(process: psutil.Process) -> str:
    """Its command line; '' when it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else ""
    return ""


def program(world: World, name: str) -> psutil.Process | None:
    """What the supervisor runs under its guard."""
    status = next((each for each in world.platform.status() if each.name == name), None)
    return _child(psutil.Process(status.pid)) if status and status.pid else None


def _child(parent: psutil.Process | None, matches: Callable[[str], bool] = bool) -> psutil.Process | None:
    if parent is None:
        return None
    with contextlib.suppress(psutil.Error):
        return next((child for child in parent.children() if matches(line_of(child))), None)
    return None


def _is_guard(line: str) -> bool:
    return "guard.py" in line


def find(world: World, name: str) -> psutil.Process | None:
    """The process of this name: a service; `<worker>`, its `<worker> horse`, `<worker> guard` or `<worker> work`
    (what does the work: the download, the trainer, vLLM's server); `engine core`. None when there is none now.
    """
    worker, _, part = name.partition(" ")
    with contextlib.suppress(psutil.Error, OSError):
        if name == "engine core":
            engine = find(world, "inference-llm work")
            below = engine.children(recursive=True) if engine else []
            return next((each for each in below if "EngineCore" in each.name() or "EngineCore" in line_of(each)), None)
        process = program(world, worker)
        if part:
            process = _child(process)
        if part in ("guard", "work"):
            process = _child(process, _is_guard)
        return _child(process) if part == "work" else process
    return None


def alive(world: World) -> dict[int, str]:
    """All living processes of the platform with their command lines."""
    found = {}
    for pid in relatives(world.platform.config.mark):
        with contextlib.suppress(psutil.Error):
            found[pid] = line_of(psutil.Process(pid))
    return {pid: line for pid, line in found.items() if line}


def orphans(world: World) -> dict[int, str]:
    """Those of them that do not descend from the supervisor."""
    pid = int((world.platform.config.run / "supervisor.pid").read_text())
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        family = {pid, *(child.pid for child in root.children(recursive=True))}
        return {each: line for each, line in alive(world).items() if each not in family and psutil.pid_exists(each)}
    return {}
