"""The commands of a platform of processes on loopback: up, down, status, logs, backup, restore, keys.

What brings the clients of every store is imported where a command needs it: the others answer a second sooner.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hearth_local import keys
from hearth_local.config import CannotStart
from hearth_local.text import mib, span

if TYPE_CHECKING:
    from hearth_local.platform import Platform, ProgramStatus

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.add_typer(keys.app, name="keys")
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def up() -> None:
    """Start everything and wait until it is ready."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    platform = _platform()
    try:
        platform.start(console)
    except CannotStart as reason:
        errors.print("[red]not started:[/]", end=" ")
        errors.print(str(reason), markup=False)
        raise typer.Exit(1) from reason
    except KeyboardInterrupt:
        errors.print("interrupted; what was started is stopped again")
        raise typer.Exit(130) from None
    console.print(f"Hearth is up: {platform.url}/api/docs/\n  data: {platform.home}\n  stop it: make down")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _platform() -> "Platform":
    from hearth_local.platform import Platform

    try:
        return Platform.from_environment()
    except CannotStart as reason:
        errors.print(str(reason), markup=False)
        raise typer.Exit(2) from reason


@app.command()
def down() -> None:
    """Stop everything."""
    _platform().stop(console)
    console.print("Hearth is down")


@app.command()
def status() -> None:
    """Show how each program is; exit code 0 only when all are ready."""
    platform = _platform()
    programs = platform.status()
    if not programs:
        console.print("Hearth is down; `make up` starts it")
        raise typer.Exit(3)
    console.print(program_table(programs))
    if not all(program.ready for program in programs):
        raise typer.Exit(1)


def program_table(programs: "list[ProgramStatus]") -> Table:
    """The programs, a row each."""
    table = Table("program", "state", "ready", "pid", "port", "up for", "memory")
    for program in programs:
        table.add_row(
            program.name,
            program.state,
            "[green]yes[/]" if program.ready else "[red]no[/]",
            str(program.pid or ""),
            str(program.port or ""),
            span(program.uptime_seconds) if program.pid else "",
            mib(program.memory_bytes) if program.pid else "",
        )
    return table


@app.command()
def logs(
    program: Annotated[str, typer.Argument(help="one program; all without it")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines come")] = False,
) -> None:
    """Show the end of the logs."""
    config = _platform().config
    names = sorted(path.stem for path in config.logs.glob("*.log"))  # the engines' and the supervisor's, too
    if not names:
        errors.print(f"no logs in {config.logs} yet")
        raise typer.Exit(1)
    if program and program not in names:
        errors.print(f"there is no log of {program!r}; there are {', '.join(names)}")
        raise typer.Exit(2)
    found = [str(config.log_of(name)) for name in ([program] if program else names)]
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", "50", *(["-F"] if follow else []), *found])


@app.command(name="backup")
def backup_command(
    file: Annotated[Path, typer.Argument(help="the file to write")],
    no_models: Annotated[bool, typer.Option("--no-models", help="leave base models out")] = False,
) -> None:
    """Save all data: jobs, keys, deployments, datasets, adapters and base models."""
    from hearth_local.backup import backup

    with _refused():
        raise typer.Exit(backup(_platform(), file, console, models=not no_models))


@app.command(name="restore")
def restore_command(file: Annotated[Path, typer.Argument(help="a backup")]) -> None:
    """Put a backup into a new, empty HEARTH_HOME; `up` then starts it."""
    from hearth_local.backup import restore

    with _refused():
        raise typer.Exit(restore(_platform(), file, console))


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except CannotStart as reason:
        errors.print(str(reason), markup=False)
        raise typer.Exit(1) from reason
