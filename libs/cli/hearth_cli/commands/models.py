"""`hearth models`: base models and adapters."""

from typing import Annotated

import typer
from hearth_local.text import mib

from hearth_cli.begun import finish_job, fit_table
from hearth_cli.console import DryRun, Json, Watch, Yes, confirm, hearth, say, show, table, when

app = typer.Typer(no_args_is_help=True, help="Base models and adapters.")

ModelId = Annotated[str, typer.Argument(help="the model's id, e.g. HuggingFaceTB/SmolLM2-135M-Instruct")]
NewId = Annotated[str, typer.Argument(help="the id to give it")]


@app.command(name="list")
def list_all(as_json: Json = False) -> None:
    """List what can be deployed and fine-tuned."""
    with hearth() as client:
        entries = client.models.list()
    rows = [
        (
            entry.model_id,
            "adapter" if entry.adapter else "base",
            entry.base_model_id,
            mib(entry.size_bytes) if entry.size_bytes is not None else "",
            entry.license,
            when(entry.created_at),
        )
        for entry in entries
    ]
    show(entries, as_json, lambda: table(("id", "kind", "of", "size", "licence", "since"), rows))


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="words of their names")],
    limit: Annotated[int, typer.Option(min=1, max=50, help="so many at most")] = 10,
    as_json: Json = False,
) -> None:
    """Search the hub."""
    with hearth() as client:
        found = client.models.search(text, limit)
    rows = [(each.model_id, each.downloads, each.license, "yes" if each.gated else "") for each in found]
    show(found, as_json, lambda: table(("id", "downloads in 30 days", "licence", "gated"), rows))


@app.command()
def add(model_id: ModelId, watch: Watch = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Download a model from the hub."""
    with hearth() as client:
        if dry_run:
            report = client.models.estimate(model_id)
            show(report, as_json, lambda: fit_table(report))
        else:
            finish_job(client.models.add(model_id), watch, as_json)


@app.command(name="import")
def take(
    model_id: NewId,
    folder: Annotated[str, typer.Argument(help="its name under HEARTH_HOME/imports on the platform's machine")],
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Take a model from a folder."""
    with hearth() as client:
        finish_job(client.models.take(model_id, folder), watch, as_json)


@app.command()
def merge(
    adapter_id: Annotated[str, typer.Argument(help="the adapter's id")],
    model_id: NewId,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Merge an adapter into its base, as a new model."""
    with hearth() as client:
        finish_job(client.models.merge(adapter_id, model_id), watch, as_json)


@app.command()
def delete(model_id: Annotated[str, typer.Argument(help="a base's or an adapter's id")], yes: Yes = False) -> None:
    """Delete a base model or an adapter."""
    confirm(f"Delete {model_id}?", yes)
    with hearth() as client:
        client.models.delete(model_id)
    say(f"{model_id} is deleted")
