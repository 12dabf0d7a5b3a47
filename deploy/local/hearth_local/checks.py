"""What must hold before anything is started: free ports, room on the disk, environments."""

import contextlib
import shutil
import socket
from pathlib import Path

import psutil

from hearth_local.config import DEFAULT_PORTS, Config
from hearth_local.paths import env_python

NEEDED_GIB = 2.0


class CannotStart(Exception):
    """The platform cannot be started; the message is one line that says why and what to do."""


def check_ports(config: Config) -> None:
    """Raise CannotStart for the first port that is taken, with who has it and how to choose another."""
    for name, port in config.ports.by_name.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                main = name.split()[0]
                variable = f"HEARTH_{main.upper()}_PORT"
                raise CannotStart(
                    f"port {port} ({name}) is taken by {_holder(port)}; stop that, or choose another: "
                    f"{variable}={DEFAULT_PORTS[main] + 1000} make up"
                ) from None


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


def check_environments() -> None:
    """Raise CannotStart when an engine's environment is missing."""
    for name in ("training", "vllm", "infinity"):
        if not env_python(name).exists():
            raise CannotStart(f"the environment {name} is missing; run `make setup`")


def check_socket_path(path: Path) -> None:
    """Raise CannotStart when the kernel would not take a unix socket's path: it has 107 bytes for it."""
    if len(str(path).encode()) > 107:
        raise CannotStart(f"{path} is too long for a unix socket; set HEARTH_HOME to a shorter path")
