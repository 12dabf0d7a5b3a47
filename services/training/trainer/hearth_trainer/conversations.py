"""The rows of a dataset's file, whatever format they came in."""

import json
from collections.abc import Iterator
from pathlib import Path

from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.rows import Conversation, PlainText, Preference, Row, read_row

LONGEST_INTEGER = 4_000

__all__ = ["Conversation", "PlainText", "Preference", "Row", "read_rows", "with_chosen"]


def read_rows(path: Path, data_format: DatasetFormat) -> Iterator[Row]:
    """Every row of a file that the dataset service has checked, in order."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield read_row(number, json.loads(line, parse_int=_number), data_format)


def _number(digits: str) -> float:
    """An integer; one too long for Python to read is what any other JSON reader makes of it."""
    return int(digits) if len(digits) < LONGEST_INTEGER else float(digits)


def with_chosen(pair: Preference) -> Conversation:
    """The prompt and the better answer, which alone is learnt."""
    learn = [False] * len(pair.prompt) + [message["role"] == "assistant" for message in pair.chosen]
    return Conversation(pair.line, [*pair.prompt, *pair.chosen], learn, pair.tools)
