"""Proof that a process is gone, and all it started with it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
from hearth_jobs import owners

LEADER = textwrap.dedent("""
    import sys
    from hearth_jobs.guard import guarded
    from hearth_jobs.owners import this_process
    child = guarded([sys.executable, "-c", "import time; time.sleep(600)"], heartbeat=600)
    print(this_process(), child.pid, flush=True)
    child.wait()
""")


def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def leader() -> Iterator[tuple["subprocess.Popen[str]", owners.Owner, int]]:
    """A process that has started another under a guard: the process, its name, the guard's id."""
    with subprocess.Popen([sys.executable, "-c", LEADER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name, guard = process.stdout.readline().split()
        owner = owners.parse(name)
        assert owner is not None
        yield process, owner, int(guard)
        process.kill()
        owners.kill_remains(owner)


def test_a_name_reads_back() -> None:
    me = owners.this_process()
    assert owners.parse(str(me)) == me
    assert (owners.lives(me), owners.is_gone(me)) == (True, False)


@pytest.mark.parametrize("name", ["", "host:1", "host:1:2", "host:x:2@space", "me"])
def test_what_is_no_name_of_ours_tells_nothing(name: str) -> None:
    assert owners.parse(name) is None


def test_of_another_machine_nothing_is_known() -> None:
    elsewhere = replace(owners.this_process(), space="another")
    assert (owners.lives(elsewhere), owners.is_gone(elsewhere)) == (None, None)


def test_a_later_process_of_the_same_number_is_another() -> None:
    assert owners.lives(replace(owners.this_process(), started="1")) is False


def test_an_owner_is_gone_only_when_what_it_started_is_gone_too() -> None:
    with leader() as (process, owner, guard):
        assert owners.is_gone(owner) is False
        os.kill(guard, signal.SIGSTOP)  # it will neither notice its parent's death nor the silence
        process.kill()
        process.wait()
        assert owners.lives(owner) is False
        assert owners.is_gone(owner) is False
        owners.kill_remains(owner)
        assert owners.is_gone(owner) is True
        assert not psutil.pid_exists(guard) or psutil.Process(guard).status() == psutil.STATUS_ZOMBIE


def test_a_living_owners_family_is_left_alone() -> None:
    with leader() as (_, owner, guard):
        owners.kill_remains(owner)
        assert psutil.Process(guard).status() != psutil.STATUS_ZOMBIE


def test_an_owner_that_was_killed_is_soon_gone_with_all_it_started() -> None:
    with leader() as (process, owner, _):
        process.kill()
        process.wait()
        eventually(lambda: owners.is_gone(owner) is True)
