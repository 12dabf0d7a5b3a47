"""One row of a dataset: can a model learn from it? Pure: a value in, faults out."""

from collections.abc import Callable
from typing import Any

from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.rows import KEYS, Preference, format_of, read_row

from hearth_dataset.messages import Faults, Place, RowFault, check_order, check_text, check_tools, read_openai
from hearth_dataset.messages import read_sharegpt as read_sharegpt_turns

KEYS_OF = {found: keys for keys, found in KEYS.items()}


def check_row(row: Any, expected: DatasetFormat) -> tuple[list[RowFault], int]:
    """The faults of a row in the file's format (no more than about a hundred), and the number of its turns."""
    keys = KEYS_OF[expected]
    if not isinstance(row, dict) or not row.keys() >= set(keys):
        found = format_of(row)
        absent = next(key for key in keys if not isinstance(row, dict) or key not in row)
        what = f"this row has {found.value!r} format" if found else f"there is no {absent!r}"
        return [RowFault((absent,), f"{what}; every row of a file has the same format, here {expected.value!r}")], 0
    faults = Faults()
    turns = _CHECKS[expected](row, faults)
    return faults, turns


def _check_messages(row: dict[str, Any], faults: Faults) -> int:
    turns = read_openai(("messages",), row["messages"], faults)
    check_tools(("tools",), row.get("tools"), faults)
    if not faults:
        check_order(("messages",), turns, faults)
    return _length(row["messages"])


def _length(listed: Any) -> int:
    return len(listed) if isinstance(listed, list) else 0


def _check_sharegpt(row: dict[str, Any], faults: Faults) -> int:
    turns = read_sharegpt_turns(("conversations",), row["conversations"], faults)
    system = _check_system(row, faults)
    if not faults:
        check_order(("conversations",), turns, faults)
        if system and turns[0].role == "system":
            faults.add(("system",), "the conversation begins with a system message of its own")
    return _length(row["conversations"]) + system


def _check_system(row: dict[str, Any], faults: Faults) -> int:
    """1 when the row has a system message beside its turns."""
    if row.get("system") in (None, ""):
        return 0
    check_text(("system",), row["system"], faults)
    return 1


def _check_alpaca(row: dict[str, Any], faults: Faults) -> int:
    check_text(("instruction",), row["instruction"], faults)
    if not isinstance(row.get("input", ""), str | None):
        faults.add(("input",), "must be text; it may be empty or absent")
    check_text(("output",), row["output"], faults)
    if row.get("history"):
        faults.add(("history",), "earlier turns are not read here; write the row as `messages`")
    return 2 + _check_system(row, faults)


def _check_prompt_completion(row: dict[str, Any], faults: Faults) -> int:
    for name in ("prompt", "completion"):
        _check_said((name,), row[name], faults)
    if isinstance(row["prompt"], str) != isinstance(row["completion"], str):
        faults.add(("completion",), "prompt and completion must both be texts, or both lists of messages")
    check_tools(("tools",), row.get("tools"), faults)
    if faults:
        return 0
    if isinstance(row["prompt"], str):
        return 2
    return _check_continued(("prompt",), row["prompt"], ("completion",), row["completion"], faults)


def _check_said(where: Place, said: Any, faults: Faults) -> None:
    """A text, or a list of messages."""
    if isinstance(said, list):
        read_openai(where, said, faults)
    else:
        check_text(where, said, faults)


def _check_continued(where: Place, prompt: list[Any], answer_where: Place, answer: list[Any], faults: Faults) -> int:
    """Whether messages that are known to be good by themselves go on well after others; the number of them all."""
    before, after = read_openai(where, prompt, Faults()), read_openai(answer_where, answer, Faults())
    if after[0].role != "assistant":
        faults.add(answer_where, "must begin with what the assistant answers")
        return 0
    check_order(answer_where, [*before, *after], faults)
    return len(before) + len(after)


def _check_preference(row: dict[str, Any], faults: Faults) -> int:
    texts = [isinstance(row[name], str) for name in ("chosen", "rejected")]
    for name in ("chosen", "rejected"):
        _check_said((name,), row[name], faults)
    check_tools(("tools",), row.get("tools"), faults)
    if not faults and texts[0] != texts[1]:
        faults.add(("rejected",), "chosen and rejected must both be texts, or both lists of messages")
    if faults:
        return 0
    if not any(_brings_prompt(row[name]) for name in ("chosen", "rejected")):
        if "prompt" not in row:
            faults.add(("prompt",), "is missing: give it, or let chosen and rejected be whole conversations")
        else:
            _check_said(("prompt",), row["prompt"], faults)
        if faults:
            return 0
    return _check_pair(read_row(0, row, DatasetFormat.PREFERENCE), ("prompt",), ("chosen",), ("rejected",), faults)


def _brings_prompt(answer: str | list[Any]) -> bool:
    return isinstance(answer, list) and answer[0]["role"] != "assistant"


def _check_pair(pair: Any, prompt: Place, chosen: Place, rejected: Place, faults: Faults) -> int:
    assert isinstance(pair, Preference)
    if not pair.prompt:
        faults.add(rejected, "shares no prompt with the chosen answer; both must begin with the same messages")
        return 0
    if pair.chosen == pair.rejected:
        faults.add(rejected, "is the same as the chosen answer, so there is nothing to prefer")
        return 0
    for where, answer in ((chosen, pair.chosen), (rejected, pair.rejected)):
        if not answer:
            faults.add(where, "ends where the other goes on; both must answer")
        elif not faults:
            _check_continued(prompt, pair.prompt, where, answer, faults)
    return len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


def _check_openai_preference(row: dict[str, Any], faults: Faults) -> int:
    asked = row["input"]
    if not isinstance(asked, dict):
        faults.add(("input",), "must be an object with `messages`")
        return 0
    read_openai(("input", "messages"), asked.get("messages"), faults)
    check_tools(("input", "tools"), asked.get("tools"), faults)
    for name in ("preferred_output", "non_preferred_output"):
        read_openai((name,), row[name], faults)
    if faults:
        return 0
    pair = read_row(0, row, DatasetFormat.OPENAI_PREFERENCE)
    return _check_pair(pair, ("input", "messages"), ("preferred_output",), ("non_preferred_output",), faults)


def _check_text(row: dict[str, Any], faults: Faults) -> int:
    check_text(("text",), row["text"], faults)
    return 0


_CHECKS: dict[DatasetFormat, Callable[[dict[str, Any], Faults], int]] = {
    DatasetFormat.MESSAGES: _check_messages,
    DatasetFormat.SHAREGPT: _check_sharegpt,
    DatasetFormat.PROMPT_COMPLETION: _check_prompt_completion,
    DatasetFormat.ALPACA: _check_alpaca,
    DatasetFormat.PREFERENCE: _check_preference,
    DatasetFormat.OPENAI_PREFERENCE: _check_openai_preference,
    DatasetFormat.TEXT: _check_text,
}
