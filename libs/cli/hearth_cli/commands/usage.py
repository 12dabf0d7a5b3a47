"""`hearth usage`: what was used."""

from datetime import datetime
from typing import Annotated

import typer

from hearth_cli.console import Json, hearth, show, table


def usage(
    key: Annotated[str | None, typer.Option(help="a key's id; `open` for what was asked without one")] = None,
    model: Annotated[str | None, typer.Option(help="a model, by the name it was asked by")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first day, UTC")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last day, UTC")] = None,
    as_json: Json = False,
) -> None:
    """Requests and tokens by day, key and model; 30 days up to today unless told."""
    with hearth() as client:
        rows = client.usage(key, model, first.date() if first else None, last.date() if last else None)
    cells = [
        (row.day, row.key_id, row.model, f"{row.requests:,}", f"{row.prompt_tokens:,}", f"{row.completion_tokens:,}",
         f"{row.embedding_tokens:,}")
        for row in rows
    ]  # fmt: skip
    columns = ("day", "key", "model", "requests", "prompt tokens", "completion tokens", "embedding tokens")
    show(rows, as_json, lambda: table(columns, cells))
