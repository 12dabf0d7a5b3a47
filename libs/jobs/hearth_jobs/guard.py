"""Run a command so that nothing it started outlives the one who wanted it.

    python -m hearth_jobs.guard [--grace SECONDS] [--heartbeat SECONDS] [--pulse SECONDS] [--parent PID|PIDFILE]
        -- COMMAND...

The guard leads a new session, asks the kernel for SIGTERM when its parent dies, adopts whatever below it loses its
parent, and starts COMMAND. It ends all of that when it is told to (SIGTERM, SIGINT), when its parent is gone, when
its standard input ends or stays silent for `heartbeat` seconds (a parent that hangs), when COMMAND shows no sign of
life for `pulse` seconds after it once did (it hangs itself), and when COMMAND ends: SIGTERM to COMMAND, `grace` seconds
for it to finish (three at most when it or its owner hangs or is dead: somebody else may soon begin the same work anew),
then SIGKILL to every process left. It exits with COMMAND's code (128 + n for a signal n) only after the last process is
gone.

If the guard itself is killed -9, the kernel kills COMMAND; `end`, or the guard's own guard, kills the rest, which they
know by a mark in the environment that everything below a guard inherits.

Linux only: prctl(2), PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER; proc(5). Nothing but the standard library, since it
starts with everything.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.05

DEFAULT_GRACE = 10.0
ORPHAN_GRACE = 3.0
PULSE = "HEARTH_PULSE"
"""The variable that tells a command its guard's process id and a pipe to write to: a byte a second says it lives."""
MARK = "HEARTH_GUARDS"
"""The variable that names all guards above a process and who started them, outermost first, with spaces between."""


def guarded(
    command: Sequence[str], *, grace: float = DEFAULT_GRACE, heartbeat: float | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """Start `command` under a guard. `options` are Popen's; the process returned is the guard's.

    With `heartbeat`, write a byte to its stdin more often than that. The parent-death signal is tied to the *thread*
    that calls this: call it from one that lives as long as the command should.
    """
    mark = uuid.uuid4().hex
    # By its file, which needs no import path: the command's environment need not be ours.
    arguments = [sys.executable, __file__, f"--grace={grace}", f"--parent={os.getpid()}", f"--mark={mark}"]
    if heartbeat is not None:
        arguments.append(f"--heartbeat={heartbeat}")
        options["stdin"] = subprocess.PIPE
    environment = os.environ if options.get("env") is None else options["env"]
    marks = f"{os.environ.get(MARK, '')} {started_by(os.getpid(), started(os.getpid()) or '')} {mark}"
    options["env"] = {**environment, MARK: marks.strip()}
    return subprocess.Popen([*arguments, "--", *command], **options)


def started(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot; None when there is none, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else fields[19].decode()


def started_by(pid: int, since: str) -> str:
    """The mark of all that the process `pid`, itself started at `since`, starts under guards."""
    return f"by-{pid}-{since}"


def end(process: "subprocess.Popen[Any]", grace: float = DEFAULT_GRACE) -> int:
    """End a guarded command and see that nothing of it is left. Returns the guard's exit code."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        code = process.wait(grace + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code < 0:  # it was killed; one that exits by itself has seen the last process go
        mark = next(word.partition("=")[2] for word in _words(process) if word.startswith("--mark="))
        kill_all(lambda: relatives(mark, process.pid))
    return code


def kill_all(find: Callable[[], Collection[int]]) -> None:
    """SIGKILL what `find` gives, again and again until it gives nothing."""
    empty = 0
    while empty < 2:  # a look through /proc takes time, in which a process may have moved
        found = find()
        empty = 0 if found else empty + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def relatives(mark: str, group: int | None = None) -> set[int]:
    """The living processes that have `mark` in their environment or belong to process group `group`, and all below."""
    parents: dict[int, int] = {}
    found = set()
    for pid, parent, its_group in _processes():
        parents[pid] = parent
        if its_group == group or mark in _marks(pid):
            found.add(pid)
    return {*found, *(below for root in found for below in _below(root, parents))} - {os.getpid()}


def descendants(root: int) -> set[int]:
    """The living processes below `root`."""
    return _below(root, {pid: parent for pid, parent, _ in _processes()})


def _below(root: int, parents: Mapping[int, int]) -> set[int]:
    found: set[int] = set()
    new = {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _processes() -> Iterator[tuple[int, int, int]]:
    """Id, parent and group of every process that has not ended."""
    with os.scandir("/proc") as entries:
        pids = [entry.name for entry in entries if entry.name.isdigit()]
    for pid in pids:
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            state, parent, group = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:3]
            if state not in b"ZX":
                yield int(pid), int(parent), int(group)


def _marks(pid: int) -> list[str]:
    """The guards above a process. A program that overwrites its environment hides them, but not its parent."""
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == MARK.encode():
                return value.decode(errors="replace").split()
    return []


def _words(process: "subprocess.Popen[Any]") -> list[str]:
    assert isinstance(process.args, list)  # as `guarded` made it
    return [str(word) for word in process.args]


def main(argv: Sequence[str] | None = None) -> int:
    """Guard the command given after `--`; see the module's docstring."""
    options = _parse(argv)
    libc = ctypes.CDLL(None, use_errno=True)
    parent, me = _parent(options.parent), os.getpid()
    with contextlib.suppress(PermissionError):  # it leads a group already, as a supervisor's children may
        os.setsid()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:  # it died before the first prctl
        return 128 + signal.SIGTERM

    told: list[int] = []
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: told.append(received))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def die_with_me() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(128 + signal.SIGKILL)

    feels, beats = os.pipe()
    os.set_blocking(beats, False)
    environment = {**os.environ, PULSE: f"{me}:{beats}"} if options.pulse else None
    try:
        child = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_me,
            env=environment,
            pass_fds=[beats] if options.pulse else [],
        )
    except OSError as failure:
        print(f"guard: {options.command[0]}: {failure.strerror}", file=sys.stderr)  # noqa: T201
        return 127
    os.close(beats)
    asked = _watch(child, told, wake_read, options.heartbeat, feels, options.pulse)
    is_orphan = not asked or os.getppid() != parent
    _end_family(child, min(options.grace, ORPHAN_GRACE) if is_orphan else options.grace)
    code = child.returncode
    return code if code >= 0 else 128 - code


def _parent(given: str | None) -> int:
    """Who the parent was when the guard was asked for; by now it may be dead, and another process in its place.

    A supervisor that cannot put its own id on a command line gives its pid file.
    """
    if given and given.isdigit():
        return int(given)
    with contextlib.suppress(OSError, ValueError):
        return int(Path(given or "").read_text())
    return os.getppid()


def _watch(
    child: "subprocess.Popen[bytes]", told: list[int], wake: int, heartbeat: float | None, feels: int, pulse: float
) -> bool:
    """Return when the command has ended or is to be ended: False when that is for want of a heartbeat or pulse."""
    heard = time.monotonic()
    still: float | None = None  # seconds without a pulse, once there was one
    sources = [wake, *([] if heartbeat is None else [sys.stdin.fileno()]), *([feels] if pulse else [])]
    while True:
        _reap(child)
        if child.returncode is not None or told:
            return True
        left = None if heartbeat is None else heard + heartbeat - time.monotonic()
        if (left is not None and left <= 0) or (still is not None and still >= pulse):
            return False
        patience = left if still is None else 1.0 if left is None else min(left, 1.0)
        ready, _, _ = select.select(sources, [], [], patience)
        if not ready and still is not None:
            still += 1.0  # counted, not read off a clock: where this process, too, was frozen nothing is amiss
        for source in ready:
            data = os.read(source, 4096)
            if source == feels:
                still = 0.0 if data else None
                if not data:
                    sources.remove(feels)  # closed: it will say no more
            elif source != wake:
                if not data:
                    return False
                heard = time.monotonic()


def _end_family(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """SIGTERM to the command, patience, then SIGKILL to all that is left, until nothing is."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        deadline = time.monotonic() + grace
        while child.returncode is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            _reap(child)
    while True:
        _reap(child)
        left = descendants(os.getpid())
        if not left and child.returncode is not None:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _reap(child: "subprocess.Popen[bytes]") -> None:
    """Collect every child that has ended, adopted ones too; note the command's own code."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="guard", description="run a command so that nothing of it outlives its owner")
    parser.add_argument("--grace", type=float, default=DEFAULT_GRACE, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--heartbeat", type=float, help="end all when standard input is silent for so many seconds")
    parser.add_argument("--pulse", type=float, default=0.0, help=f"end all when the command has shown signs of life by "
                        f"{PULSE} and none for so many seconds")  # fmt: skip
    parser.add_argument("--parent", help="the process id of the one who starts it, or a file that holds it")
    parser.add_argument("--mark", help="names this guard; it is read from its command line and environment")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
