"""What an image from scratch needs to run Python: the interpreter, its library, and what these and environments load.

    runtime.py ROOT ENVIRONMENT...

ROOT gets no shell and no package manager; its users are root and hearth (10001). Any Python on a glibc system will do
for it, the official image's or Debian's. Standard library alone.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

UNUSED = (
    "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "turtledemo", "*tkinter*", "config-*", "site-packages",
    "dist-packages", "__pycache__",
)  # fmt: skip
"""Of Python's library."""
SYSTEM = (
    "etc/ssl",
    "etc/nsswitch.conf",
    "etc/ld.so.cache",
    "etc/os-release",
    "usr/lib/ssl",
    "usr/share/ca-certificates",
)
"""How names are resolved, which libraries there are, whom to trust, and, for scanners, what this was made of."""
ACCOUNTS = {
    "passwd": "root:x:0:0:root:/:/sbin/nologin\nhearth:x:10001:10001::/:/sbin/nologin\n",
    "group": "root:x:0:\nhearth:x:10001:\n",
}


def loaded(files: Iterable[Path]) -> set[Path]:
    """The libraries of the system that these need, by ldd. Raises SystemExit for one that is not here."""
    said = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False).stdout
    if missing := re.findall(r"(\S+) => not found", said):
        raise SystemExit(f"not on this system: {', '.join(sorted(set(missing)))}")
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", said)}


def copy(path: Path, root: Path) -> None:
    """One file, whatever links lead to it, where the loader looks for it."""
    target = root / path.parent.resolve().relative_to("/") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)


def build(root: Path, environments: list[Path]) -> None:
    """Fill `root`."""
    root.mkdir(parents=True)
    for folder in (Path("/lib"), Path("/lib64")):  # as a merged /usr has them
        if folder.is_symlink():
            (root / folder.name).symlink_to(folder.readlink())
    interpreter, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    copy(interpreter, root)
    for environment in environments:  # what they call Python, if not by its own name
        python = environment / "bin" / "python"
        while python.is_relative_to(environment):
            python = python.parent / python.readlink()
        link = root / python.relative_to("/")
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(interpreter)
    copied = root / library.relative_to("/")
    shutil.copytree(library, copied, ignore=shutil.ignore_patterns(*UNUSED), ignore_dangling_symlinks=True)
    modules = [path for place in (copied, *environments) for path in place.rglob("*.so*") if path.is_file()]
    for found in loaded([interpreter, *modules]):
        if not any(found.is_relative_to(environment) for environment in environments):
            copy(found, root)
    for name in SYSTEM:
        if Path("/", name).is_dir():
            shutil.copytree(Path("/", name), root / name, symlinks=True)
        elif Path("/", name).exists():
            copy(Path("/", name), root)
    for name, text in ACCOUNTS.items():
        (root / "etc" / name).write_text(text)
    (root / "var" / "lib").mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    # nothing can be compiled into a root that is read-only
    compileall.compile_dir(copied, quiet=1, stripdir=str(root), legacy=False)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [root, first, *others]:
            build(Path(root), [Path(each) for each in (first, *others)])
        case _:
            raise SystemExit(__doc__)
