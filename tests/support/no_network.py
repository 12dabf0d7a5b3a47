"""Run a command where there is no network but loopback: `no_network.py COMMAND...`, inside a network namespace.

`cut_off()` says how to get there. Standard library alone, since what runs in there is a machine's bare Python.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

SIOCSIFFLAGS, IFF_UP, IFNAMSIZ = 0x8914, 1, 16
ELSEWHERE = "192.0.2.1"  # kept for documentation: nobody's, and by a route like any other's
NOBODY = "http://127.0.0.1:9"
"""The discard port, where nobody listens."""


def cut_off() -> tuple[list[str], dict[str, str]]:
    """The words before a command and the variables that cut it off.

    A network namespace of its own, as root or as a user who may have one. Where the kernel gives none, as in some
    containers, all that speaks HTTP is sent to a proxy that is not there.
    """
    for options in (["--net"], ["--net", "--map-root-user"]):
        words = ["unshare", *options, sys.executable, str(Path(__file__).resolve())]
        if (
            shutil.which("unshare")
            and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ):
            return words, {}
    names = ("http_proxy", "https_proxy", "all_proxy")
    return [], {each: NOBODY for name in names for each in (name, name.upper())} | {"NO_PROXY": "127.0.0.1,localhost"}


def main() -> None:
    """Bring loopback up, see that nothing else can be reached, and become the command."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack(f"{IFNAMSIZ}sh", b"lo", IFF_UP))
        if sock.connect_ex((ELSEWHERE, 9)) == 0:
            sys.exit(f"{ELSEWHERE} has a route: the network is not cut")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
