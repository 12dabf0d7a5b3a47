"""No process outlives its owner, however the owner, the guard or the command ends."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hearth_jobs.guard import end, guarded, relatives
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

PYTHON = sys.executable


@retry(retry=retry_if_result(lambda held: not held), stop=stop_after_delay(10), wait=wait_fixed(0.02))
def eventually(condition: Callable[[], bool]) -> bool:
    return condition()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    """A command that has a child, and a grandchild in a session of its own whose parent has gone."""
    script = tmp_path / "family.py"
    script.write_text(
        textwrap.dedent("""
        import os, pathlib, subprocess, sys, time
        here = pathlib.Path(__file__).parent
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        child = subprocess.Popen(sleeper)
        if os.fork() == 0:
            orphan = subprocess.Popen(sleeper, start_new_session=True)
            (here / "orphan").write_text(str(orphan.pid))
            os._exit(0)
        os.wait()
        (here / "pids.tmp").write_text(f"{os.getpid()} {child.pid} {(here / 'orphan').read_text()}")
        (here / "pids.tmp").rename(here / "pids")
        time.sleep(600)
        """)
    )
    return [PYTHON, str(script)]


def pids(tmp_path: Path) -> list[int]:
    eventually((tmp_path / "pids").exists)
    found = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(found) == 3
    assert all(alive(pid) for pid in found)
    return found


def all_gone(found: list[int]) -> bool:
    return not any(alive(pid) for pid in found)


def test_the_commands_exit_code_and_output_come_through() -> None:
    process = guarded([PYTHON, "-c", "print('hello'); raise SystemExit(7)"], stdout=subprocess.PIPE, text=True)
    assert process.communicate() == ("hello\n", None)
    assert process.returncode == 7


def test_a_command_killed_by_a_signal_is_told_from_one_that_ended() -> None:
    process = guarded([PYTHON, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert process.wait(10) == 128 + signal.SIGKILL


def test_ending_it_ends_the_orphan_in_another_session_too(family: list[str], tmp_path: Path) -> None:
    process = guarded(family, grace=2)
    found = pids(tmp_path)
    assert end(process, grace=2) == 128 + signal.SIGTERM
    assert all_gone(found)


def test_a_command_that_ignores_the_request_is_killed_after_the_grace() -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    process = guarded([PYTHON, "-c", code], grace=0.2, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    assert end(process, grace=0.2) == 128 + signal.SIGKILL
    process.stdout.close()


def test_what_the_command_leaves_behind_is_killed_when_it_ends(family: list[str], tmp_path: Path) -> None:
    process = guarded(family)
    found = pids(tmp_path)
    os.kill(found[0], signal.SIGKILL)
    process.wait(10)
    assert all_gone(found)


def test_a_killed_guard_takes_the_command_along_and_end_takes_the_rest(family: list[str], tmp_path: Path) -> None:
    process = guarded(family)
    found = pids(tmp_path)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    eventually(lambda: not alive(found[0]))
    end(process)
    assert all_gone(found)  # the orphan too, which neither group nor parent ties to the guard


def test_a_zombie_that_nobody_reaps_does_not_count_as_left(tmp_path: Path) -> None:
    """Where process 1 does not reap, a killed guard's family stays as zombies in its group for ever."""
    code = """
import os, pathlib, signal, sys
here = pathlib.Path(sys.argv[1])
if os.fork() == 0:
    (here / "pid.tmp").write_text(str(os.getpid()))
    (here / "pid.tmp").rename(here / "pid")
    os._exit(0)
signal.pause()
"""
    process = guarded([PYTHON, "-c", code, str(tmp_path)])
    eventually((tmp_path / "pid").exists)
    zombie = int((tmp_path / "pid").read_text())
    eventually(lambda: psutil.Process(zombie).status() == psutil.STATUS_ZOMBIE)
    assert os.getpgid(zombie) == process.pid
    assert zombie not in relatives("no such mark", process.pid)
    end(process)


def test_a_command_that_is_not_there_is_said_so() -> None:
    process = guarded(["/no/such/command"], stderr=subprocess.PIPE, text=True)
    assert process.communicate(timeout=10)[1] == "guard: /no/such/command: No such file or directory\n"
    assert process.returncode == 127


def test_a_guard_whose_parent_died_before_it_started_starts_nothing(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / "supervisor.pid").write_text(f"{dead.pid}\n")
    touch = ["--", "touch", str(tmp_path / "started")]
    for parent in (str(dead.pid), str(tmp_path / "supervisor.pid")):
        done = subprocess.run([PYTHON, "-m", "hearth_jobs.guard", f"--parent={parent}", *touch], check=False)
        assert done.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "started").exists()


def test_a_killed_guard_under_a_guard_leaves_nothing(family: list[str], tmp_path: Path) -> None:
    inner = [PYTHON, "-c", "import sys; from hearth_jobs.guard import *; guarded(sys.argv[1:]).wait()", *family]
    outer = guarded(inner)
    found = pids(tmp_path)
    (guard,) = (
        p for p in psutil.Process(outer.pid).children(recursive=True) if p.pid == psutil.Process(found[0]).ppid()
    )
    guard.kill()
    outer.wait(10)
    assert all_gone(found)


def test_everything_ends_when_the_owner_is_killed(family: list[str], tmp_path: Path) -> None:
    code = "import sys; from hearth_jobs.guard import *; guarded(sys.argv[1:], grace=1).wait()"
    owner = subprocess.Popen([PYTHON, "-c", code, *family])
    found = pids(tmp_path)
    owner.kill()
    owner.wait()
    eventually(lambda: all_gone(found))


def test_a_dead_owners_command_gets_little_grace_however_much_was_promised(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = "import pathlib, signal; signal.signal(15, signal.SIG_IGN)\n"
    deaf += f"pathlib.Path({str(ready)!r}).touch(); signal.pause()"
    code = "import sys; from hearth_jobs.guard import *; guarded(sys.argv[1:], grace=600).wait()"
    owner = subprocess.Popen([PYTHON, "-c", code, PYTHON, "-c", deaf])
    eventually(ready.exists)
    found = [process.pid for process in psutil.Process(owner.pid).children(recursive=True)]
    owner.kill()
    owner.wait()
    eventually(lambda: all_gone(found))


@pytest.mark.parametrize("silent", [True, False])
def test_a_silent_or_closed_heartbeat_ends_everything(family: list[str], tmp_path: Path, silent: bool) -> None:
    process = guarded(family, heartbeat=1.5 if silent else 600, grace=1)
    assert process.stdin is not None
    for _ in range(3):
        process.stdin.write(b".")
        process.stdin.flush()
    found = pids(tmp_path)
    if not silent:
        process.stdin.close()
    process.wait(10)
    assert all_gone(found)
    process.stdin.close()


PULSATING = """
import os, signal, sys, time
guard, _, pipe = os.environ["HEARTH_PULSE"].partition(":")
assert guard == str(os.getppid())
for _ in range(3):
    os.write(int(pipe), b".")
    time.sleep(0.5)
print("said it lives", flush=True)
"""


def under_a_guard(code: str, pulse: float = 2) -> "subprocess.Popen[str]":
    command = [PYTHON, "-m", "hearth_jobs.guard", "--grace=60", f"--pulse={pulse}", "--", PYTHON, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_command_that_hangs_after_signs_of_life_is_ended_however_long_its_grace() -> None:
    with under_a_guard(PULSATING + "os.kill(os.getpid(), signal.SIGSTOP)") as guard:
        assert guard.wait(30) == 128 + signal.SIGKILL
        assert guard.stdout is not None and guard.stdout.read() == "said it lives\n"


@pytest.mark.parametrize("code", [PULSATING + "os.close(int(pipe))", "import sys, time"])
def test_a_command_that_closes_its_pulse_or_never_has_one_is_left_alone(code: str) -> None:
    with under_a_guard(f"{code}\ntime.sleep(3); sys.exit(7)", pulse=1) as guard:
        assert guard.wait(30) == 7
