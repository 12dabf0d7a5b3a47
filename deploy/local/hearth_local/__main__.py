"""`python -m hearth_local up|down|status|logs`: the platform as processes on loopback."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hearth_local.checks import CannotStart
from hearth_local.platform import Platform
from hearth_local.text import gib

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@app.command()
def up() -> None:
    """Start everything and wait until it is ready."""
    platform = Platform.from_environment()
    if platform.is_up():
        console.print(f"Hearth is up already: {platform.url}")
        return
    try:
        platform.start(console)
    except CannotStart as reason:
        errors.print(f"[red]not started:[/] {reason}")
        raise typer.Exit(1) from reason
    except KeyboardInterrupt:
        errors.print("interrupted; everything is stopped again")
        raise typer.Exit(130) from None
    console.print(f"Hearth is up: {platform.url}/api/docs/\n  data: {platform.home}\n  stop it: make down")


@app.command()
def down() -> None:
    """Stop everything."""
    Platform.from_environment().stop(console)
    console.print("Hearth is down")


@app.command()
def status() -> None:
    """Show how each program is; exit code 0 only when all are ready."""
    platform = Platform.from_environment()
    programs = platform.status()
    if not programs:
        console.print("Hearth is down; `make up` starts it")
        raise typer.Exit(3)
    table = Table("program", "state", "ready", "pid", "port", "up for", "memory")
    for program in programs:
        table.add_row(
            program.name,
            program.state,
            "[green]yes[/]" if program.ready else "[red]no[/]",
            str(program.pid or ""),
            str(program.port or ""),
            f"{program.uptime_seconds / 60:.0f} min" if program.uptime_seconds else "",
            gib(program.memory_bytes),
        )
    console.print(table)
    if not all(program.ready for program in programs):
        raise typer.Exit(1)


@app.command()
def logs(
    program: Annotated[str, typer.Argument(help="one program; all without it")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines come")] = False,
) -> None:
    """Show the end of the logs."""
    platform = Platform.from_environment()
    names = [each.name for each in platform.programs]
    if program and program not in names:
        errors.print(f"there is no program {program!r}; there are {', '.join(names)}")
        raise typer.Exit(2)
    paths = [platform.config.log_of(name) for name in ([program] if program else names)]
    found = [str(path) for path in paths if path.exists()]
    if not found:
        errors.print(f"no logs in {platform.config.logs} yet")
        raise typer.Exit(1)
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", "50", *(["-F"] if follow else []), *found])


if __name__ == "__main__":
    app()
