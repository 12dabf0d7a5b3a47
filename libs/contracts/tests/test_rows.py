"""What a row means, whatever its format."""

from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.rows import Conversation, PlainText, Preference, Row, format_of, read_row, texts_of

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
OTHER = {"role": "assistant", "content": "hm"}
SYSTEM = {"role": "system", "content": "be kind"}
CHAT = Conversation(3, [USER, ANSWER], [False, True])
PAIR = Preference(3, [USER], [ANSWER], [OTHER])


@pytest.mark.parametrize(
    ("row", "means"),
    [
        ({"messages": [USER, ANSWER]}, CHAT),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, ANSWER]}, CHAT),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}, CHAT),
        (
            {"system": "be kind", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
            Conversation(3, [SYSTEM, USER, ANSWER], [False, False, True]),
        ),
        ({"prompt": "hi", "completion": "ho"}, CHAT),
        (
            {"prompt": [USER, OTHER, USER], "completion": [ANSWER]},
            Conversation(3, [USER, OTHER, USER, ANSWER], [False, False, False, True]),
        ),
        ({"instruction": "hi", "input": "", "output": "ho"}, CHAT),
        (
            {"instruction": "add", "input": "1 2", "output": "ho"},
            Conversation(3, [{"role": "user", "content": "add\n\n1 2"}, ANSWER], [False, True]),
        ),
        ({"prompt": "hi", "chosen": "ho", "rejected": "hm"}, PAIR),
        ({"prompt": "hi", "chosen": [ANSWER], "rejected": [OTHER]}, PAIR),
        ({"chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, PAIR),
        (
            {"prompt": "hi", "messages": [USER, ANSWER], "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
            PAIR,
        ),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}, PAIR),
        ({"text": "hi"}, PlainText(3, "hi")),
    ],
)
def test_rows_that_say_the_same_are_read_the_same(row: dict[str, Any], means: Row) -> None:
    data_format = format_of(row)
    assert data_format is not None
    assert read_row(3, row, data_format) == means


def test_weights_say_what_is_learnt_and_are_not_shown_to_the_template() -> None:
    row = {"messages": [USER, {**OTHER, "weight": 0}, USER, {**ANSWER, "weight": 1}]}
    read = read_row(1, row, DatasetFormat.MESSAGES)
    assert read == Conversation(1, [USER, OTHER, USER, ANSWER], [False, False, False, True])


def test_the_arguments_of_a_call_become_the_object_that_templates_ask_for() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = {"messages": [USER, {"role": "assistant", "tool_calls": [call]}], "tools": tools}
    read = read_row(1, row, DatasetFormat.MESSAGES)
    assert isinstance(read, Conversation)
    assert read.tools == tools
    assert read.messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}


@pytest.mark.parametrize("row", [None, [], {}, {"prompt": "x"}, {"chosen": "x"}, "text"])
def test_what_has_the_keys_of_no_format_has_none(row: Any) -> None:
    assert format_of(row) is None


def test_all_that_a_row_says_is_its_text() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert texts_of(Conversation(1, [USER, calling], [False, True])) == ["hi", 'add {"a": 1}']
    assert texts_of(PAIR) == ["hi", "ho", "hm"]
    assert texts_of(PlainText(1, "hi")) == ["hi"]
