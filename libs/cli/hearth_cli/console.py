"""What is printed: tables for people, JSON for scripts; troubles on standard error."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from hearth_client import Hearth
from hearth_contracts.jobs import Job
from hearth_local.config import CannotStart, Config, gateway_tls
from hearth_local.text import span
from pydantic_core import to_json
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

Json = Annotated[bool, typer.Option("--json", help="as JSON, for scripts")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="stay until it is over, with its progress")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do it without asking")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="begin nothing; tell what it would take")]
Setting = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE; repeatable")]

PATIENCE_SECONDS = 3.0
"""For a single call; what is watched outlives ten minutes."""

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def hearth() -> Iterator[Hearth]:
    """The platform that HEARTH_URL names, else this machine's, with the key HEARTH_API_KEY."""
    verify: Any = True
    url = os.environ.get("HEARTH_URL", "")
    if not url:
        try:
            config = Config.from_environment()
        except CannotStart as reason:
            raise typer.BadParameter(str(reason)) from reason
        url, verify = config.url, gateway_tls(config)
    with Hearth(url, patience=PATIENCE_SECONDS, verify=verify) as client:
        yield client


def show(value: Any, as_json: bool, table: Callable[[], Table | str]) -> None:
    """Print a value: as JSON, or as the table that `table` makes of it."""
    if as_json:
        print_json(value)
    else:
        made = table()
        console.print(made, markup=not isinstance(made, str))


def print_json(value: Any) -> None:
    """A value of the contracts as JSON on standard output, and nothing else there."""
    sys.stdout.write(to_json(value, indent=2).decode() + "\n")
    sys.stdout.flush()


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table | str:
    """A table, or a word when there is nothing."""
    made = Table(*[Column(name, overflow="fold") for name in columns])  # an id is shown whole, or it is of no use
    for row in rows:
        made.add_row(*[escape("" if cell is None else str(cell)) for cell in row])
    return made if made.row_count else "none"


def complain(what: str, *more: str) -> None:
    """Say on standard error what went wrong, and then where and what to do."""
    errors.print("[red]error:[/]", end=" ")
    errors.print(what, markup=False)
    for line in more:
        errors.print(line, markup=False, style="dim")


def say(words: str) -> None:
    """Something for people, on standard error, so that it is never in the way of JSON."""
    errors.print(words, markup=False)


def shows_progress() -> bool:
    """Whether a bar makes sense: somebody looks at standard error."""
    return sys.stderr.isatty()


def confirm(question: str, yes: bool) -> None:
    """Ask, unless told not to. Raises typer.Abort."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


@contextmanager
def watching(goes_on: str) -> Iterator[None]:
    """Ctrl-C ends the watching, not what is watched."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\n{goes_on}")
        raise typer.Exit(130) from None


def when(moment: datetime | None) -> str:
    """A time for people, in their time zone."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def job_table(jobs: Iterable[Job]) -> Table | str:
    """Jobs as rows."""
    columns = ("id", "name", "status", "done", "doing", "left", "created")
    return table(columns, [_job_row(job) for job in jobs])


def _job_row(job: Job) -> tuple[object, ...]:
    doing = job.error if job.error else ("" if job.status.is_over else job.stage)
    left = span(job.eta_seconds) if job.eta_seconds is not None and not job.status.is_over else ""
    return job.id, job.name, job.status, f"{job.progress:.0%}", doing, left, when(job.created_at)
