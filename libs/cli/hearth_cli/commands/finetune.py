"""`hearth finetune`: training adapters."""

from typing import Annotated

import typer
from hearth_client import Hearth, Run
from hearth_contracts.finetune import FinetuneStatus, Metric
from hearth_local.text import span
from rich.table import Table

from hearth_cli.begun import finish_run, fit_table, settings
from hearth_cli.console import (
    DryRun,
    Json,
    Setting,
    Watch,
    hearth,
    job_table,
    show,
    table,
    watching,
    when,
)

app = typer.Typer(no_args_is_help=True, help="Training adapters.")

Finetune = Annotated[str | None, typer.Argument(help="a fine-tune's id; the newest without it")]


@app.command()
def create(
    model_id: Annotated[str, typer.Argument(help="the base model's id")],
    dataset_id: Annotated[str, typer.Argument(help="the dataset's id")],
    name: Annotated[str, typer.Option(help="names the training, and so the adapter")] = "adapter",
    given: Setting = None,
    resources: Annotated[
        list[str] | None, typer.Option("--resource", help="of a Ray cluster, e.g. workers=4; repeatable")
    ] = None,
    deploy: Annotated[bool, typer.Option("--deploy", help="serve it beside its base once it is trained")] = False,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="higher ones begin first")] = 0,
    watch: Watch = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train an adapter. Settings: --set n_epochs=3 --set learning_rate=2e-4 ..."""
    chosen = settings(given)
    with hearth() as client:
        if dry_run:
            plan, report = (
                client.finetune.plan(model_id, dataset_id, chosen),
                client.finetune.estimate(model_id, dataset_id, chosen),
            )
            show({"plan": plan, "fit": report}, as_json, lambda: fit_table(report))
        else:
            run = client.finetune.create(
                name, model_id, dataset_id, chosen, priority=priority, deploy=deploy,
                resources=settings(resources, "--resource"),
            )  # fmt: skip
            finish_run(run, watch, as_json)


@app.command(name="list")
def list_all(as_json: Json = False) -> None:
    """List fine-tunes, newest first."""
    with hearth() as client:
        found = client.finetune.list()
    rows = [
        (f.id, f.name, f.model_id, f.job.status, f"{f.job.progress:.0%}", f.adapter_id, when(f.created_at))
        for f in found
    ]
    show(found, as_json, lambda: table(("id", "name", "model", "status", "done", "adapter", "created"), rows))


@app.command()
def status(finetune_id: Finetune = None, watch: Watch = False, as_json: Json = False) -> None:
    """Show a fine-tune; exit code 1 if it was watched and failed."""
    with hearth() as client:
        run = _run(client, finetune_id)
        if watch:
            finish_run(run, watch, as_json)
        else:
            show(run.record, as_json, lambda: _shown(run.record))


@app.command()
def metrics(
    finetune_id: Finetune = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as steps come")] = False,
    as_json: Json = False,
) -> None:
    """Show the curve: loss by step. Followed with --json, one object a line."""
    with hearth() as client:
        run = _run(client, finetune_id)
        if not follow:
            curve = run.metrics()
            show(curve, as_json, lambda: table(COLUMNS, [_cells(point) for point in curve.points]))
            return
        with watching("the training goes on"):
            for point in run.follow_metrics():
                typer.echo(point.model_dump_json() if as_json else _line(point))


@app.command()
def interrupt(finetune_id: Finetune = None, as_json: Json = False) -> None:
    """Stop a fine-tune; it keeps its last checkpoint."""
    with hearth() as client:
        job = _run(client, finetune_id).interrupt()
    show(job, as_json, lambda: job_table([job]))


@app.command()
def resume(
    finetune_id: Annotated[str, typer.Argument(help="a fine-tune that was interrupted or failed")],
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Go on with a fine-tune from its last checkpoint."""
    with hearth() as client:
        run = client.finetune.get(finetune_id)
        run.resume()
        finish_run(run, watch, as_json)


COLUMNS = ("step", "epoch", "loss", "eval loss", "tokens/s", "left")


def _run(client: Hearth, finetune_id: str | None) -> Run:
    return client.finetune.get(finetune_id) if finetune_id else client.finetune.latest()


def _cells(point: Metric) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    left = "" if point.eta_seconds is None else span(point.eta_seconds)
    return (
        f"{point.step}/{point.max_steps}", f"{point.epoch:.2f}", number(point.loss, ".4f"),
        number(point.eval_loss, ".4f"), number(point.tokens_per_second, ",.0f"), left,
    )  # fmt: skip


def _line(point: Metric) -> str:
    return "  ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, _cells(point), strict=True) if cell)


def _shown(record: FinetuneStatus) -> Table | str:
    rows: list[tuple[str, object]] = [
        ("id", record.id), ("name", record.name), ("model", record.model_id), ("dataset", record.dataset_id),
        ("adapter", record.adapter_id), ("status", record.job.status), ("doing", record.job.stage),
        ("done", f"{record.job.progress:.0%}"), ("checkpoint", record.checkpoint_step), ("error", record.job.error),
    ]  # fmt: skip
    if record.position is not None:
        rows.append(("place in the queue", record.position))
    if record.result is not None:
        steps = f"{record.result.steps}{', ended early' if record.result.stopped_early else ''}"
        loss = f"{record.result.train_loss:.4f}"
        rows += [("steps", steps), ("train loss", loss), ("took", span(record.result.seconds))]
    return table(("", record.name), [row for row in rows if row[1] is not None])
