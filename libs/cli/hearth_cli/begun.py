"""What a command does with what it has begun: tell, or watch."""

import json
from collections.abc import Iterable
from typing import Any

import typer
from hearth_client import Deployment, JobHandle, Run
from hearth_contracts.fit import FitReport
from hearth_local.text import gib
from rich.table import Table

from hearth_cli.console import job_table, say, show, shows_progress, table, watching


def finish_job(handle: JobHandle, watch: bool, as_json: bool) -> None:
    """Watch a job to its end if asked to, and show it. Raises JobFailed."""
    if watch:
        with watching(f"it goes on; `hearth jobs show {handle.id} --watch` comes back to it"):
            handle.wait(progress=shows_progress())
    show(handle.job, as_json, lambda: job_table([handle.job]))


def finish_run(run: Run, watch: bool, as_json: bool) -> None:
    """The same for a fine-tune."""
    if watch:
        with watching(f"it goes on; `hearth finetune status {run.id} --watch` comes back to it"):
            run.wait(progress=shows_progress())
    show(run.record, as_json, lambda: job_table([run.record.job]))
    say(f"fine-tune {run.id}, adapter {run.adapter_id}")


def finish_deployment(begun: Deployment, watch: bool, as_json: bool) -> None:
    """The same for a deployment: its end is that it answers."""
    status = None
    if watch:
        with watching(f"it goes on; `hearth deploy status {begun.name} --watch` comes back to it"):
            status = begun.wait(progress=shows_progress())
    show(status or begun.job, as_json, lambda: job_table([begun.job]))
    if status is not None:
        say(f"{begun.name} is {status.state}")


def fit_table(report: FitReport) -> Table | str:
    """An estimate for people."""
    rows = [
        (need.resource, gib(need.needed_bytes), gib(need.available_bytes), "yes" if need.fits else "no", need.remedy)
        for need in report.needs
    ]
    return table(("resource", "needed", "available", "fits", "what to do"), rows)


def settings(given: Iterable[str] | None, option: str = "--set") -> dict[str, Any]:
    """`NAME=VALUE` pairs, a value being JSON where it can be read as such, else text. Raises typer.BadParameter."""
    found: dict[str, Any] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{option} {pair}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
