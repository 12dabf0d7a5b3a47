"""Several hosts on this machine: each a network, processes, a name and a disk that the others have not, on one switch.

Linux namespaces, as containers are made of; for root alone. They end with whoever made them, and all in them too.
"""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

CLONE_NEWNET = 0x40000000
NAMESPACES = ("--net", "--pid", "--mount", "--uts", "--ipc")
ALONE = ("unshare", *NAMESPACES, "--mount-proc", "--fork", "--kill-child", "sh", "-ec")
# `cat` is the host's init: it ends with the pipe that this process holds, and the host with it. It buries orphans
# because SIGCHLD is ignored.
BOOT = """
echo "$1" > /proc/sys/kernel/hostname
ip link set lo up
mount -t tmpfs none "$2"
mkdir -m 700 "$2/tmp" "$2/home"
trap '' CHLD
echo up
exec cat
"""
SWITCH = "ip link add switch type bridge; ip link set switch up; echo up; exec cat"


def _why_not() -> str:
    """Why no hosts can be made here; empty where they can."""
    needed = "ip link add one type veth peer name two; ip link add switch type bridge; mount -t tmpfs none /mnt"
    try:
        tried = subprocess.run([*ALONE, needed], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return tried.stderr or "unknown" if tried.returncode else ""


_REASON = _why_not()
needs_hosts = pytest.mark.skipif(bool(_REASON), reason=f"no hosts can be made here: {_REASON}")


@dataclass
class Host:
    """One host. `disk` is the same path on each, and another file system."""

    name: str
    ip: str
    disk: Path
    pid: int  # of its init
    switch: int  # the switch's
    commands: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Its HEARTH_HOME, as it is called there."""
        return self.disk / "home"

    def seen(self, path: Path) -> Path:
        """What a path of this host is to the test."""
        return Path(f"/proc/{self.pid}/root{path}")

    def start(self, *command: object, log: Path, **settings: str) -> "subprocess.Popen[bytes]":
        """Run it there, with these variables, until the host ends."""
        words = [*_enter(self.pid, *NAMESPACES, "--wd"), *map(str, command)]
        # Nothing of this process's own environment, in which a proxy may stand that does not know the way.
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        environment |= {"HOME": str(self.home), "TMPDIR": str(self.disk / "tmp"), "HEARTH_HOME": str(self.home)}
        with log.open("ab") as out:
            process = subprocess.Popen(words, env=environment | settings, stdout=out, stderr=out)
        self.commands.append(process)
        return process

    @contextmanager
    def inside(self) -> Iterator[None]:
        """On its network: each socket that this thread opens, and all threads and processes that it starts."""
        with Path("/proc/thread-self/ns/net").open("rb") as own, Path(f"/proc/{self.pid}/ns/net").open("rb") as its:
            _join(its.fileno())
            try:
                yield
            finally:
                _join(own.fileno())

    def plug(self, *, into: bool) -> None:
        """Put its cable into the switch, or pull it out: nobody is told, everything goes on."""
        _run(*_enter(self.switch, "--net"), "ip", "link", "set", "dev", self.name, "up" if into else "down")

    def running(self, *words: str) -> list[str]:
        """The command lines of its processes that have all these words."""
        space = Path(f"/proc/{self.pid}/ns/pid").stat().st_ino
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(f"/proc/{process.pid}/ns/pid").stat().st_ino == space:
                    found.append(" ".join(process.cmdline()))
        return [line for line in found if all(word in line for word in words)]


def _enter(pid: int, *namespaces: str) -> list[str]:
    return ["nsenter", f"--target={pid}", *namespaces]


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def _join(network: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def _alone(script: str, *arguments: str) -> Iterator[int]:
    """The first process of namespaces of its own, once it has come up; at the end all that runs in them is killed."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*ALONE, script, "-", *arguments], stdin=pipe, stdout=pipe, start_new_session=True) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline() == b"up\n"
            yield psutil.Process(made.pid).children()[0].pid
        finally:
            made.kill()


@contextmanager
def hosts(*names: str) -> Iterator[list[Host]]:
    """Hosts of these names: 10.77.0.1, 10.77.0.2 and so on."""
    with ExitStack() as stack:
        # Not pytest's folder: the path of a socket is 107 characters at most.
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="host")))
        switch = stack.enter_context(_alone(SWITCH))
        made = []
        for number, name in enumerate(names, 1):
            pid = stack.enter_context(_alone(BOOT, name, str(disk)))
            host = Host(name, f"10.77.0.{number}", disk, pid, switch)
            there, here = _enter(pid, "--net"), _enter(switch, "--net")
            _run(*here, "ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
            _run(*here, "ip", "link", "set", "dev", name, "master", "switch", "up")
            _run(*there, "ip", "address", "add", f"{host.ip}/24", "dev", "eth0")
            _run(*there, "ip", "link", "set", "eth0", "up")
            made.append(host)
        try:
            yield made
        finally:
            stack.close()
            for command in (command for host in made for command in host.commands):
                command.wait()
