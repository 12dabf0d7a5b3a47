"""Rows of a dataset as conversations, whatever format they came in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth_contracts.datasets import DatasetFormat

SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Conversation:
    """One row."""

    line: int  # where it stands in the file, from 1
    messages: list[dict[str, Any]]  # as a chat template takes them
    learn: list[bool]  # for each message, whether its tokens count towards the loss
    tools: list[dict[str, Any]] | None = None


def read_conversations(path: Path, data_format: DatasetFormat) -> Iterator[Conversation]:
    """Every row of a file that the dataset service has checked, in order."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                row = json.loads(line)
                yield _sharegpt(number, row) if data_format is DatasetFormat.SHAREGPT else _openai(number, row)


def _openai(number: int, row: dict[str, Any]) -> Conversation:
    messages = [{name: value for name, value in message.items() if name != "weight"} for message in row["messages"]]
    learn = [m["role"] == "assistant" and m.get("weight", 1) != 0 for m in row["messages"]]
    return Conversation(number, messages, learn, row.get("tools"))


def _sharegpt(number: int, row: dict[str, Any]) -> Conversation:
    messages = [
        {"role": SHAREGPT_ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}
        for turn in row["conversations"]
    ]
    return Conversation(number, messages, [message["role"] == "assistant" for message in messages])
