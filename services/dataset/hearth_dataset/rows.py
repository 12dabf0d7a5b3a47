"""One row of a dataset: is it a conversation that a model can learn from? Pure: a value in, faults out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hearth_contracts.datasets import DatasetFormat

OPENAI_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
LEADING = frozenset({"system", "developer"})
MOST_FAULTS_IN_ROW = 100
LONGEST_SHOWN = 60


@dataclass(frozen=True)
class RowFault:
    """What is wrong in a row, and where: a path of keys and indexes."""

    where: tuple[str | int, ...]
    why: str


@dataclass(frozen=True)
class Turn:
    """A message, whatever format it came in."""

    where: tuple[str | int, ...]
    role: str
    calls_tools: bool = False


def format_of(row: Any) -> DatasetFormat | None:
    """The format that a row is written in, or None."""
    if isinstance(row, dict):
        if "messages" in row:
            return DatasetFormat.MESSAGES
        if "conversations" in row:
            return DatasetFormat.SHAREGPT
    return None


def check_row(row: Any, expected: DatasetFormat) -> tuple[list[RowFault], int]:
    """The faults of a row in the file's format (no more than about a hundred), and the number of its turns."""
    found = format_of(row)
    if found is not expected:
        key = "messages" if expected is DatasetFormat.MESSAGES else "conversations"
        what = f"this row has {found.value!r} format" if found else f"there is no {key!r}"
        return [RowFault((key,), f"{what}; every row of a file has the same format, here {expected.value!r}")], 0
    key = "messages" if expected is DatasetFormat.MESSAGES else "conversations"
    listed = row[key]
    if not isinstance(listed, list) or not listed:
        return [RowFault((key,), "must be a list of at least one message")], 0
    faults: list[RowFault] = []
    turns: list[Turn] = []
    read = _read_openai if expected is DatasetFormat.MESSAGES else _read_sharegpt
    for index, message in enumerate(listed):
        turn = read((key, index), message, faults)
        if turn is not None:
            turns.append(turn)
        if len(faults) >= MOST_FAULTS_IN_ROW:
            break
    if not faults:
        faults.extend(_check_order((key,), turns))
    return faults, len(listed)


def _read_openai(where: tuple[str | int, ...], message: Any, faults: list[RowFault]) -> Turn | None:
    if not isinstance(message, dict):
        faults.append(RowFault(where, "must be an object with `role` and `content`"))
        return None
    role = message.get("role")
    if not isinstance(role, str) or role not in OPENAI_ROLES:
        roles = ", ".join(sorted(OPENAI_ROLES))
        faults.append(RowFault((*where, "role"), f"must be one of {roles}; it is {_shown(role)}"))
        return None
    calls = message.get("tool_calls")
    calls_tools = role == "assistant" and isinstance(calls, list) and bool(calls)
    content = message.get("content")
    if not (content in (None, "") and calls_tools):
        _check_text((*where, "content"), content, faults)
    if "weight" in message and (role != "assistant" or message["weight"] not in (0, 1)):
        faults.append(RowFault((*where, "weight"), "must be 0 or 1, and only assistant messages have one"))
    return Turn(where, role, calls_tools)


def _read_sharegpt(where: tuple[str | int, ...], message: Any, faults: list[RowFault]) -> Turn | None:
    if not isinstance(message, dict):
        faults.append(RowFault(where, "must be an object with `from` and `value`"))
        return None
    role = SHAREGPT_ROLES.get(str(message.get("from")))
    if role is None:
        faults.append(
            RowFault((*where, "from"), f"must be human, gpt or system; it is {_shown(message.get('from'))}"),
        )
        return None
    value = message.get("value")
    _check_text((*where, "value"), value, faults)
    return Turn(where, role)


def _check_text(where: tuple[str | int, ...], text: Any, faults: list[RowFault]) -> None:
    if not (isinstance(text, str) and text.strip()):
        faults.append(RowFault(where, "must be text that is not empty"))
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can say it, no tokenizer can read it
        half = f"\\u{ord(text[error.start]):04x}"
        faults.append(RowFault(where, f"holds {half}, one half of a surrogate pair; remove it or give the whole pair"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _check_order(where: tuple[str | int, ...], turns: list[Turn]) -> Iterator[RowFault]:
    """System first, then user and assistant in turn, tool results after a call; and an assistant to learn from."""
    if not any(turn.role == "assistant" for turn in turns):
        yield RowFault(where, "has no assistant message, so there is nothing to learn from")
        return
    before: Turn | None = None
    for index, turn in enumerate(turns):
        if turn.role in LEADING:
            if index != 0:
                yield RowFault((*turn.where,), f"a {turn.role} message can only come first")
        elif turn.role == "tool":
            if before is None or not (before.calls_tools or before.role == "tool"):
                yield RowFault((*turn.where,), "a tool message must follow an assistant message with tool_calls")
        elif turn.role == "user":
            if before is not None and before.role == "user":
                yield RowFault((*turn.where,), "two user messages in a row; join them")
        elif before is None or before.role in LEADING:
            yield RowFault((*turn.where,), "an assistant message must follow a user message")
        elif before.role == "assistant" and not before.calls_tools:
            yield RowFault((*turn.where,), "two assistant messages in a row; join them")
        before = turn
