"""`make backup` and `make restore`: management's backup, run with this platform's addresses and passwords."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from hearth_local.config import CannotStart, load_secrets, process_environment
from hearth_local.platform import Platform
from hearth_local.programs import PROGRAMS


def backup(platform: Platform, file: Path, console: Console, *, models: bool = True) -> int:
    """Save the platform's data to `file`, whether it is up or not; gives the exit code. Raises CannotStart."""
    with _stores(platform, console):
        return _run(platform, ["save", str(file.absolute()), *([] if models else ["--no-models"])])


def restore(platform: Platform, file: Path, console: Console) -> int:
    """Put `file` back into a platform that is down and empty; gives the exit code. Raises CannotStart."""
    if platform.is_up():
        raise CannotStart("the platform is up: stop it first (make down), so that nobody works on half of the data")
    with _stores(platform, console):
        return _run(platform, ["restore", str(file.absolute())])


@contextlib.contextmanager
def _stores(platform: Platform, console: Console) -> Iterator[None]:
    """Redis and S3, started for this alone if the platform is down."""
    if platform.is_up():
        yield
        return
    stores = replace(platform, programs=[program for program in PROGRAMS if program.is_store])
    try:
        stores.start(console)
        yield
    finally:
        stores.stop(console)


def _run(platform: Platform, words: Sequence[str]) -> int:
    environment = process_environment(platform.config, load_secrets(platform.config))
    command = [sys.executable, "-m", "hearth_management.backup", *words]
    return subprocess.run(command, env=environment, check=False).returncode
