"""The fast look at common rows says nothing that the close look would not."""

import json
from typing import Any

import msgspec
import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.rows import read_row
from hearth_dataset.common_rows import turns_of
from hearth_dataset.rows import check_row
from hypothesis import example, given
from hypothesis import strategies as st

TEXT = st.sampled_from(["hi", " ", "", "\u00a0", "é\n"]) | st.none() | st.integers()
ROLE = st.sampled_from(["system", "developer", "user", "assistant", "tool", "bot", None, 1])
AUTHOR = st.sampled_from(["human", "user", "gpt", "assistant", "system", "alien", 0])
ODD = st.sampled_from([None, 0, 1, "x", [], {}, True, [["a", "b"]]])


def some(required: dict[str, Any], optional: dict[str, Any]) -> Any:
    return st.fixed_dictionaries(required, optional=optional)


MESSAGES = st.lists(some({"role": ROLE, "content": TEXT}, {"weight": ODD, "tool_calls": ODD, "name": ODD}), max_size=5)
SAID = st.lists(some({"from": AUTHOR, "value": TEXT}, {"weight": ODD}), max_size=5)
SIDES = {"tools": ODD, "system": ODD, "history": ODD, "prompt": TEXT, "input": TEXT}
ROWS = {
    DatasetFormat.MESSAGES: some({"messages": MESSAGES}, SIDES),
    DatasetFormat.SHAREGPT: some({"conversations": SAID}, SIDES),
    DatasetFormat.PROMPT_COMPLETION: some({"prompt": TEXT | MESSAGES, "completion": TEXT | MESSAGES}, {"tools": ODD}),
    DatasetFormat.ALPACA: some({"instruction": TEXT, "output": TEXT}, SIDES),
    DatasetFormat.PREFERENCE: some({"chosen": TEXT | MESSAGES, "rejected": TEXT | MESSAGES}, SIDES),
    DatasetFormat.TEXT: some({"text": TEXT}, SIDES),
    DatasetFormat.OPENAI_PREFERENCE: some({"input": ODD, "preferred_output": ODD, "non_preferred_output": ODD}, {}),
}
CASES = st.sampled_from(DatasetFormat).flatmap(lambda kind: st.tuples(st.just(kind), ROWS[kind]))


def chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@given(case=CASES)
@example(case=(DatasetFormat.MESSAGES, chat("user", "assistant", "user")))
@example(case=(DatasetFormat.MESSAGES, chat("assistant", "user")))
@example(case=(DatasetFormat.MESSAGES, chat("user", "system", "assistant")))
def test_what_is_quickly_found_good_is_good_with_as_many_turns(case: tuple[DatasetFormat, Any]) -> None:
    data_format, row = case
    quickly = turns_of([json.dumps(row).encode()], data_format)
    if quickly is not None:
        assert check_row(row, data_format) == ([], quickly)
        read_row(1, row, data_format)


@pytest.mark.parametrize(
    ("row", "data_format", "turns"),
    [
        (chat("system", "user", "assistant", "user"), DatasetFormat.MESSAGES, 4),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            DatasetFormat.SHAREGPT,
            2,
        ),
        ({"prompt": "a", "completion": "b", "id": 7}, DatasetFormat.PROMPT_COMPLETION, 2),
        ({"instruction": "a", "input": "", "output": "b"}, DatasetFormat.ALPACA, 2),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, DatasetFormat.PREFERENCE, 3),
        ({"text": "a"}, DatasetFormat.TEXT, 0),
    ],
)
def test_common_rows_are_found_good_quickly(row: Any, data_format: DatasetFormat, turns: int) -> None:
    assert turns_of([json.dumps(row).encode()] * 3, data_format) == 3 * turns


@pytest.mark.parametrize(
    "text",
    [r'"\ud83d"', r'"a\udc00"', r'"\udc00\ud83d"', "NaN", "[1", r'"\q"', "1e999", '"\x01"', r'"\ud83dx"'],
)
def test_what_is_not_json_is_found_neither_quickly_nor_closely(text: str) -> None:
    """Also where nobody looks: Python's own reader, the trainer's, would stumble over it or take it for something."""
    for line in (f'{{"text": "a", "other": {text}}}', f'{{"text": {text}}}'):
        with pytest.raises(msgspec.MsgspecError):
            msgspec.json.decode(line)
    assert turns_of([f'{{"text": {text}}}'.encode()], DatasetFormat.TEXT) is None
