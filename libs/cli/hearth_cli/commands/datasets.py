"""`hearth datasets`: rows to learn from."""

from pathlib import Path
from typing import Annotated

import typer
from hearth_client import NotReached, Progress, Unavailable
from hearth_client.progress import telling
from hearth_contracts.rows import Conversation, PlainText, Preference
from hearth_local.text import mib

from hearth_cli.console import Json, Yes, confirm, hearth, say, show, shows_progress, table, when

app = typer.Typer(no_args_is_help=True, help="Rows to learn from.")

DatasetId = Annotated[str, typer.Argument(help="the dataset's id")]
COLUMNS = ("id", "name", "format", "rows", "size", "description", "uploaded")


@app.command(name="list")
def list_all(as_json: Json = False) -> None:
    """List datasets."""
    with hearth() as client:
        found = client.datasets.list()
    rows = [(d.id, d.name, d.format, f"{d.rows:,}", mib(d.bytes), d.description, when(d.created_at)) for d in found]
    show(found, as_json, lambda: table(COLUMNS, rows))


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="one row a line; also as gzip, zstd or Parquet", exists=True)],
    description: Annotated[str | None, typer.Option(help="what it is")] = None,
    resume: Annotated[str | None, typer.Option(help="go on with an upload that ended early: its id")] = None,
    as_json: Json = False,
) -> None:
    """Upload a file in parts; it is checked line by line."""
    upload_id = resume or ""
    with hearth() as client, telling(shows_progress()) as tell:

        def noted(progress: Progress) -> None:
            nonlocal upload_id
            upload_id = progress.resume_id
            tell(progress)

        try:
            made = client.datasets.upload(file, description, noted, resume)
        except (KeyboardInterrupt, NotReached, Unavailable):
            if upload_id:
                say(f"\nto go on with it: hearth datasets upload {file} --resume {upload_id}")
            raise
    rows = [(made.id, made.name, made.format, f"{made.rows:,}", mib(made.bytes), made.description, "now")]
    show(made, as_json, lambda: table(COLUMNS, rows))


@app.command()
def preview(
    dataset_id: DatasetId,
    limit: Annotated[int, typer.Option(min=1, max=100, help="rows")] = 5,
    cursor: Annotated[str | None, typer.Option(help="the next page: what the last one said")] = None,
    as_json: Json = False,
) -> None:
    """Show some rows as they are understood."""
    with hearth() as client:
        page = client.datasets.preview(dataset_id, limit, cursor)
    show(page, as_json, lambda: table(("line", "row"), [(row.line, _said(row)) for row in page.rows]))
    if page.next and not as_json:
        say(f"more: --cursor {page.next}")


@app.command()
def tokens(
    dataset_id: DatasetId,
    model: Annotated[str, typer.Option("--model", "-m", help="the base model whose tokenizer counts")],
    as_json: Json = False,
) -> None:
    """Count a dataset's tokens by a model's tokenizer."""
    with hearth() as client:
        found = client.finetune.tokens(model, dataset_id)
    about = "" if found.exact else "about "
    row = (f"{found.rows:,}", f"{about}{found.tokens:,}", f"{found.longest_row:,}")
    show(found, as_json, lambda: table(("rows", "tokens", "longest row"), [row]))


@app.command()
def download(
    dataset_id: DatasetId,
    file: Annotated[Path | None, typer.Argument(help="where to; <id>.jsonl here without it")] = None,
) -> None:
    """Download a dataset as JSON lines."""
    target = file or Path(f"{dataset_id}.jsonl")
    with hearth() as client:
        client.datasets.download(dataset_id, target, progress=shows_progress())
    say(f"{target} is there")


@app.command()
def delete(dataset_id: DatasetId, yes: Yes = False) -> None:
    """Delete a dataset."""
    confirm(f"Delete dataset {dataset_id}?", yes)
    with hearth() as client:
        client.datasets.delete(dataset_id)
    say(f"{dataset_id} is deleted")


def _said(row: Conversation | Preference | PlainText) -> str:
    if isinstance(row, PlainText):
        return row.text
    if isinstance(row, Preference):
        parts = {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
        return "\n".join(f"[{name}] {_turns(messages)}" for name, messages in parts.items())
    return _turns(row.messages)


def _turns(messages: list[dict[str, object]]) -> str:
    return "\n".join(f"{message['role']}: {message.get('content')}" for message in messages)
