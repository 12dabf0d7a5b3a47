"""What a row of each format means: the one reading that trainer, preview and token counts share.

These functions take rows that the dataset service has checked, and raise KeyError or TypeError on others.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hearth_contracts.datasets import DatasetFormat

Message = dict[str, Any]
"""A message as a chat template takes it: `role`, `content`, and for tools `tool_calls` or `tool_call_id`."""

SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Conversation:
    """Messages, some of which are to be learnt."""

    line: int  # where it stands in the file, from 1
    messages: list[Message]
    learn: list[bool]  # for each message, whether its tokens count towards the loss
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Preference:
    """Two ways to go on after the same prompt, one of them better."""

    line: int
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class PlainText:
    """Text without turns."""

    line: int
    text: str


Row = Conversation | Preference | PlainText


def format_of(row: Any) -> DatasetFormat | None:
    """The format that a row is written in, told by its keys; None when it has none of them."""
    if isinstance(row, dict):
        for keys, found in KEYS.items():
            if row.keys() >= set(keys):
                return found
    return None


def read_row(line: int, row: dict[str, Any], data_format: DatasetFormat) -> Row:
    """The row at `line`, in the form that all of its kind share."""
    return _READERS[data_format](line, row)


def texts_of(row: Row) -> list[str]:
    """All that a row says, of a preference pair the prompt once; without what a chat template puts around it."""
    if isinstance(row, PlainText):
        return [row.text]
    messages = row.messages if isinstance(row, Conversation) else [*row.prompt, *row.chosen, *row.rejected]
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or []]
    said = [message["content"] for message in messages if message.get("content")]
    return said + [f"{call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}" for call in calls]


KEYS = {
    ("chosen", "rejected"): DatasetFormat.PREFERENCE,  # first: such rows often carry `prompt` and `messages` as well
    ("input", "preferred_output", "non_preferred_output"): DatasetFormat.OPENAI_PREFERENCE,
    ("messages",): DatasetFormat.MESSAGES,
    ("conversations",): DatasetFormat.SHAREGPT,
    ("instruction", "output"): DatasetFormat.ALPACA,
    ("prompt", "completion"): DatasetFormat.PROMPT_COMPLETION,
    ("text",): DatasetFormat.TEXT,
}
"""The keys that tell each format; the first that a row has all of decides."""


def _is_answer(message: Message) -> bool:
    return bool(message["role"] == "assistant")


def _messages(line: int, row: dict[str, Any]) -> Conversation:
    learn = [_is_answer(message) and message.get("weight", 1) != 0 for message in row["messages"]]
    return Conversation(line, [_message(each) for each in row["messages"]], learn, row.get("tools"))


def _message(message: Message) -> Message:
    """Without `weight`, the content as one text, and each call's arguments as the object that templates ask for."""
    read = {name: value for name, value in message.items() if name != "weight"}
    if isinstance(read.get("content"), list):
        read["content"] = "".join(part["text"] for part in read["content"])
    if read.get("tool_calls"):
        read["tool_calls"] = [_call(call) for call in read["tool_calls"]]
    return read


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    return {**call, "function": {**function, "arguments": arguments}}


def _sharegpt(line: int, row: dict[str, Any]) -> Conversation:
    turns = [{"role": SHAREGPT_ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    messages = [*_system(row), *turns]
    return Conversation(line, messages, [_is_answer(message) for message in messages])


def _system(row: dict[str, Any]) -> list[Message]:
    return [{"role": "system", "content": row["system"]}] if row.get("system") else []


def _prompt_completion(line: int, row: dict[str, Any]) -> Conversation:
    prompt, completion = _said("user", row["prompt"]), _said("assistant", row["completion"])
    learn = [False] * len(prompt) + [_is_answer(message) for message in completion]
    return Conversation(line, [*prompt, *completion], learn, row.get("tools"))


def _said(role: str, said: str | list[Message]) -> list[Message]:
    """A text is one message; a list of messages is what it is."""
    if isinstance(said, str):
        return [{"role": role, "content": said}]
    return [_message(message) for message in said]


def _alpaca(line: int, row: dict[str, Any]) -> Conversation:
    asked = "\n\n".join(filter(None, (row["instruction"], row.get("input"))))
    messages = [
        *_system(row),
        {"role": "user", "content": asked},
        {"role": "assistant", "content": row["output"]},
    ]
    return Conversation(line, messages, [_is_answer(message) for message in messages])


def _preference(line: int, row: dict[str, Any]) -> Preference:
    """Answers that are whole conversations bring the prompt themselves: it is what both begin with."""
    chosen, rejected = _said("assistant", row["chosen"]), _said("assistant", row["rejected"])
    if _is_answer(chosen[0]) and _is_answer(rejected[0]):
        prompt = _said("user", row["prompt"])
    else:
        shared = 0
        while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    return Preference(line, prompt, chosen, rejected, row.get("tools"))


def _openai_preference(line: int, row: dict[str, Any]) -> Preference:
    return Preference(
        line,
        _said("user", row["input"]["messages"]),
        _said("assistant", row["preferred_output"]),
        _said("assistant", row["non_preferred_output"]),
        row["input"].get("tools"),
    )


def _text(line: int, row: dict[str, Any]) -> PlainText:
    return PlainText(line, row["text"])


_READERS: dict[DatasetFormat, Callable[[int, dict[str, Any]], Row]] = {
    DatasetFormat.MESSAGES: _messages,
    DatasetFormat.SHAREGPT: _sharegpt,
    DatasetFormat.PROMPT_COMPLETION: _prompt_completion,
    DatasetFormat.ALPACA: _alpaca,
    DatasetFormat.PREFERENCE: _preference,
    DatasetFormat.OPENAI_PREFERENCE: _openai_preference,
    DatasetFormat.TEXT: _text,
}
