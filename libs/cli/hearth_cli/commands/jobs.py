"""`hearth jobs`: everything that takes a while."""

from datetime import datetime
from typing import Annotated

import typer
from hearth_contracts.jobs import JobKind, JobStatus

from hearth_cli.begun import finish_job
from hearth_cli.console import Json, Watch, hearth, job_table, say, show, watching

app = typer.Typer(no_args_is_help=True, help="Everything that takes a while.")

JobId = Annotated[str, typer.Argument(help="the job's id")]


@app.command(name="list")
def list_all(
    kind: Annotated[list[JobKind] | None, typer.Option(help="only this kind; repeatable")] = None,
    status: Annotated[list[JobStatus] | None, typer.Option(help="only these; repeatable")] = None,
    since: Annotated[datetime | None, typer.Option(help="only jobs created then or later; UTC")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many")] = 20,
    cursor: Annotated[str | None, typer.Option(help="the id of the last job of the page before")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with hearth() as client:
        found = client.jobs.list(kind or [], status or [], since, limit, cursor)
    show(found, as_json, lambda: job_table(found))
    if len(found) == limit and not as_json:
        say(f"more: --cursor {found[-1].id}")


@app.command(name="show")
def show_one(job_id: JobId, watch: Watch = False, as_json: Json = False) -> None:
    """Show a job; exit code 1 if it was watched and failed."""
    with hearth() as client:
        finish_job(client.jobs.get(job_id), watch, as_json)


@app.command()
def logs(
    job_id: JobId, follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines come")] = False
) -> None:
    """Print the end of a job's log, or its lines as they come."""
    with hearth() as client:
        job = client.jobs.get(job_id)
        if not follow:
            typer.echo(job.logs(), nl=False)
            return
        with watching("the job goes on"):
            for line in job.follow():
                typer.echo(line)


@app.command()
def interrupt(job_id: JobId, as_json: Json = False) -> None:
    """Stop a job: queued, running, or already over."""
    with hearth() as client:
        job = client.jobs.get(job_id)
        job.interrupt()
    show(job.job, as_json, lambda: job_table([job.job]))
