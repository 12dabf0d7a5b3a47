"""Rows of the common kind, seen to be good in a fraction of the time that `check_row` takes.

What is found good here is good there too, with as many turns; whatever is not (tool calls, lists of parts, anything
odd or wrong) is left to `check_row`, which alone knows what is a fault and says so. A test holds the two together.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Literal

from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.rows import SHAREGPT_ROLES
from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

Text = Annotated[str, Meta(min_length=1)]
_IN_TURN = re.compile(r"[sd]?(ua)+u?")


class _Message(Struct, gc=False):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text
    tool_calls: None = None
    weight: None = None


class _Messages(Struct, gc=False):
    messages: list[_Message]
    tools: None = None


class _Said(Struct, gc=False, rename={"author": "from"}):
    author: Literal["human", "user", "gpt", "assistant", "system"]
    value: Text


class _ShareGpt(Struct, gc=False):
    conversations: list[_Said]
    system: None = None


class _PromptCompletion(Struct, gc=False):
    prompt: Text
    completion: Text
    tools: None = None


class _Alpaca(Struct, gc=False):
    instruction: Text
    output: Text
    input: str | None = None
    system: None = None
    history: None = None


class _Preference(Struct, gc=False):
    prompt: Text
    chosen: Text
    rejected: Text
    tools: None = None


class _PlainText(Struct, gc=False):
    text: Text


@lru_cache(maxsize=4096)
def _in_turn(roles: tuple[str, ...]) -> bool:
    return _IN_TURN.fullmatch("".join(role[0] for role in roles)) is not None


def _blank(*texts: str) -> bool:
    return any(text.isspace() for text in texts)


def _messages(row: _Messages) -> int:
    if any([each.content.isspace() for each in row.messages]):
        return -1
    return len(row.messages) if _in_turn(tuple([each.role for each in row.messages])) else -1


def _sharegpt(row: _ShareGpt) -> int:
    if any([each.value.isspace() for each in row.conversations]):
        return -1
    roles = tuple([SHAREGPT_ROLES[each.author] for each in row.conversations])
    return len(roles) if _in_turn(roles) else -1


def _prompt_completion(row: _PromptCompletion) -> int:
    return -1 if _blank(row.prompt, row.completion) else 2


def _alpaca(row: _Alpaca) -> int:
    return -1 if _blank(row.instruction, row.output) else 2


def _preference(row: _Preference) -> int:
    return -1 if row.chosen == row.rejected or _blank(row.prompt, row.chosen, row.rejected) else 3


def _text(row: _PlainText) -> int:
    return -1 if _blank(row.text) else 0


_KINDS: dict[DatasetFormat, tuple[type[Struct], Callable[..., int]]] = {
    DatasetFormat.MESSAGES: (_Messages, _messages),
    DatasetFormat.SHAREGPT: (_ShareGpt, _sharegpt),
    DatasetFormat.PROMPT_COMPLETION: (_PromptCompletion, _prompt_completion),
    DatasetFormat.ALPACA: (_Alpaca, _alpaca),
    DatasetFormat.PREFERENCE: (_Preference, _preference),
    DatasetFormat.TEXT: (_PlainText, _text),
}
"""For each format what a common row looks like, and the number of its turns, or -1 when it is not one after all."""

_DECODERS = {data_format: (Decoder(kind).decode, turns) for data_format, (kind, turns) in _KINDS.items()}


def turns_of(lines: Sequence[bytes], data_format: DatasetFormat) -> int | None:
    """The turns in all of some lines of UTF-8 when each is a common row of the format, else None."""
    if data_format not in _DECODERS:
        return None
    decode, turns = _DECODERS[data_format]
    total = 0
    try:
        for line in lines:
            found = turns(decode(line))
            if found < 0:
                return None
            total += found
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return total
