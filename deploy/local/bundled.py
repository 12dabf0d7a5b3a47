"""What an air-gapped bundle brought along: the folder `bundle/` of an unpacked one, with every wheel that is needed.

Where it is there, packages come from it and from nowhere else. Standard library alone: `setup_envs.py` uses it before
anything is installed. `make_bundle.py` makes bundles.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "bundle"
ABOUT, WHEELS = "about.json", "wheels"


@dataclass(frozen=True)
class About:
    """What a bundle is for. Wheels are built for a kind of machine, a C library and a Python."""

    hearth: str  # its version
    machine: str  # as in `linux-x86_64`
    glibc: str  # the maker's: some wheels may need as new a one
    python: str  # as in `3.11`
    gpu: bool  # the engines' builds
    environments: tuple[str, ...]

    def written(self) -> str:
        """As it stands in the bundle."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read(folder: Path = FOLDER) -> About | None:
    """What the bundle here is for; None where there is none, as in a checkout."""
    file = folder / ABOUT
    if not file.exists():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    return About(**{**found, "environments": tuple(found["environments"])})


def this_machine() -> str:
    """The kind of machine, as wheels tell them apart."""
    return f"{sys.platform}-{platform.machine()}"


def this_glibc() -> str:
    """Its C library's version; empty where that is another one."""
    name, version = platform.libc_ver()
    return version if name == "glibc" else ""


def why_not(about: About, names: Iterable[str], gpu: bool) -> str | None:
    """Why these environments cannot be made here from this bundle, and what to do; None when they can."""
    if about.machine != this_machine():
        return f"this bundle is for {about.machine}, and this machine is {this_machine()}: make one on such a machine"
    if not this_glibc() or _numbers(this_glibc()) < _numbers(about.glibc):
        found = f"has {this_glibc()}" if this_glibc() else "has another C library"
        return f"this bundle needs glibc {about.glibc}, and this machine {found}: make one on a machine as old as this"
    if f"{sys.version_info[0]}.{sys.version_info[1]}" != about.python and not shutil.which(f"python{about.python}"):
        return f"this bundle needs Python {about.python}, and this machine has {platform.python_version()} only"
    if about.gpu and not gpu:
        return "this bundle has the builds for a GPU, and `nvidia-smi -L` shows none here: make one with GPU=no"
    if gpu and not about.gpu:
        return "this bundle has the builds for machines without a GPU, and this one has one: make one with GPU=yes"
    if missing := sorted(set(names) - set(about.environments)):
        return f"this bundle has no {', '.join(missing)}: it was made for {', '.join(about.environments)} only"
    return None


def for_pip() -> list[str]:
    """What pip is told, so that it takes the bundle's wheels and asks nobody."""
    return ["--no-index", "--find-links", (FOLDER / WHEELS).as_uri()]


def for_uv() -> dict[str, str]:
    """The same for uv, as variables. With a cache of its own: out of one that knows a package from an index, uv takes
    that index's address for the file, and then there is no network.
    """
    return {
        "UV_CACHE_DIR": str(FOLDER / "cache"),
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": (FOLDER / WHEELS).as_uri(),
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
