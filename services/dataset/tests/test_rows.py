"""What is a conversation to learn from, and what is said of a row that is none."""

import json
from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.rows import format_of, read_row
from hearth_dataset.rows import check_row
from hypothesis import given
from hypothesis import strategies as st

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
FUNCTION = {"name": "add", "arguments": '{"a": 1}'}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": FUNCTION}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "42"}


def calling(**changes: Any) -> dict[str, Any]:
    """The call of a tool, spoiled."""
    return {**CALL, "tool_calls": [{**CALL["tool_calls"][0], **changes}]}


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ANSWER],
        [{"role": "system", "content": "be kind"}, USER, ANSWER, USER, ANSWER],
        [USER, ANSWER, USER],
        [USER, CALL, RESULT, ANSWER],
        [USER, CALL],
        [USER, calling(function={"name": "add", "arguments": {"a": 1}}), RESULT, ANSWER],
        [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, ANSWER],
    ],
)
def test_conversations_are_taken(messages: list[Any]) -> None:
    assert check_row({"messages": messages}, DatasetFormat.MESSAGES) == ([], len(messages))


@pytest.mark.parametrize(
    ("messages", "where", "why"),
    [
        ([], ("messages",), "at least one"),
        ("text", ("messages",), "must be a list"),
        ([USER, "text"], ("messages", 1), "must be an object"),
        ([{"role": "bot", "content": "x"}], ("messages", 0, "role"), "must be one of"),
        ([{"role": ["user"], "content": "x"}], ("messages", 0, "role"), "it is ['user']"),
        ([{"role": {}, "content": "x"}], ("messages", 0, "role"), "it is {}"),
        ([{"content": "x"}], ("messages", 0, "role"), "it is None"),
        ([USER, {"role": "assistant", "content": " "}], ("messages", 1, "content"), "not empty"),
        ([USER, {"role": "assistant", "content": 7}], ("messages", 1, "content"), "must be text"),
        ([USER], ("messages",), "no assistant message"),
        ([ANSWER], ("messages", 0), "must follow a user"),
        ([USER, USER, ANSWER], ("messages", 1), "two user messages"),
        ([USER, ANSWER, ANSWER], ("messages", 2), "two assistant messages"),
        ([USER, {"role": "system", "content": "x"}, ANSWER], ("messages", 1), "can only come first"),
        ([USER, RESULT, ANSWER], ("messages", 1), "tool_calls"),
        ([USER, CALL, {**RESULT, "tool_call_id": "2"}, ANSWER], ("messages", 2), "answers '2'"),
        ([USER, CALL, {"role": "tool", "content": "x"}], ("messages", 2, "tool_call_id"), "needs the id"),
        ([USER, CALL, ANSWER], ("messages", 2), "have not answered"),
        ([{**USER, "tool_calls": [1]}, ANSWER], ("messages", 0, "tool_calls"), "only assistant"),
        ([USER, {**CALL, "tool_calls": []}], ("messages", 1, "tool_calls"), "at least one"),
        ([USER, {**CALL, "tool_calls": [1]}], ("messages", 1, "tool_calls", 0), "must be an object"),
        ([USER, calling(id=1)], ("messages", 1, "tool_calls", 0, "id"), "text of its own"),
        ([USER, calling(type="magic")], ("messages", 1, "tool_calls", 0, "type"), "it is 'magic'"),
        ([USER, calling(function={"arguments": "{}"})], ("messages", 1, "tool_calls", 0, "function", "name"), "name"),
        (
            [USER, calling(function={"name": "f", "arguments": "[1"})],
            ("messages", 1, "tool_calls", 0, "function", "arguments"),
            "JSON object",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER],
            ("messages", 0, "content", 0),
            "of type text",
        ),
        ([{**USER, "weight": 1}, ANSWER], ("messages", 0, "weight"), "only assistant"),
        ([USER, {**ANSWER, "weight": True}], ("messages", 1, "weight"), "must be 0 or 1"),
        ([USER, {**ANSWER, "weight": 0}], ("messages",), "weight 0, so there is nothing"),
    ],
)
def test_a_fault_names_its_place_and_the_mend(messages: Any, where: tuple[Any, ...], why: str) -> None:
    faults, _ = check_row({"messages": messages}, DatasetFormat.MESSAGES)
    assert faults[0].where == where
    assert why in faults[0].why


def test_sharegpt_is_taken_and_its_faults_are_named() -> None:
    good = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    assert check_row(good, DatasetFormat.SHAREGPT) == ([], 2)
    bad = {"conversations": [{"from": "alien", "value": "hi"}]}
    faults, _ = check_row(bad, DatasetFormat.SHAREGPT)
    assert faults[0].where == ("conversations", 0, "from")


def test_a_row_of_another_format_than_the_files_is_refused() -> None:
    faults, _ = check_row({"conversations": []}, DatasetFormat.MESSAGES)
    assert "every row of a file has the same format" in faults[0].why


@pytest.mark.parametrize(
    ("tools", "where"),
    [
        ({}, ("tools",)),
        ([{"type": "function"}], ("tools", 0)),
        ([{"type": "function", "function": {"name": ""}}], ("tools", 0, "function", "name")),
        ([{"type": "function", "function": {"name": "f", "parameters": 1}}], ("tools", 0, "function", "parameters")),
    ],
)
def test_tools_that_are_no_functions_are_named(tools: Any, where: tuple[Any, ...]) -> None:
    faults, _ = check_row({"messages": [USER, ANSWER], "tools": tools}, DatasetFormat.MESSAGES)
    assert [fault.where for fault in faults] == [where]


OTHER = {"role": "assistant", "content": "hm"}
GOOD: list[tuple[dict[str, Any], DatasetFormat, int]] = [
    ({"prompt": "hi", "completion": "ho"}, DatasetFormat.PROMPT_COMPLETION, 2),
    ({"prompt": [USER], "completion": [ANSWER, USER, ANSWER]}, DatasetFormat.PROMPT_COMPLETION, 4),
    ({"instruction": "add", "input": "1 2", "output": "3"}, DatasetFormat.ALPACA, 2),
    ({"instruction": "hi", "output": "ho", "system": "be kind"}, DatasetFormat.ALPACA, 3),
    ({"prompt": "hi", "chosen": "ho", "rejected": "hm"}, DatasetFormat.PREFERENCE, 3),
    ({"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]}, DatasetFormat.PREFERENCE, 3),
    ({"prompt": "hi", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, DatasetFormat.PREFERENCE, 3),
    ({"chosen": [USER, ANSWER, USER, ANSWER], "rejected": [USER, ANSWER, USER, OTHER]}, DatasetFormat.PREFERENCE, 5),
    (
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
        DatasetFormat.OPENAI_PREFERENCE,
        3,
    ),
    ({"text": "once upon a time"}, DatasetFormat.TEXT, 0),
]


@pytest.mark.parametrize(("row", "data_format", "turns"), GOOD)
def test_each_format_is_told_by_its_keys_taken_and_read(
    row: dict[str, Any], data_format: DatasetFormat, turns: int
) -> None:
    assert format_of(row) is data_format
    assert check_row(row, data_format) == ([], turns)
    assert read_row(7, row, data_format).line == 7


@pytest.mark.parametrize(
    ("row", "data_format", "where", "why"),
    [
        ({"prompt": "", "completion": "x"}, DatasetFormat.PROMPT_COMPLETION, ("prompt",), "not empty"),
        ({"prompt": "x", "completion": [ANSWER]}, DatasetFormat.PROMPT_COMPLETION, ("completion",), "both be texts"),
        ({"prompt": [USER], "completion": [USER]}, DatasetFormat.PROMPT_COMPLETION, ("completion",), "must begin"),
        ({"prompt": [ANSWER], "completion": [ANSWER]}, DatasetFormat.PROMPT_COMPLETION, ("prompt", 0), "must follow"),
        ({"prompt": "x"}, DatasetFormat.PROMPT_COMPLETION, ("completion",), "there is no 'completion'"),
        ({"instruction": 1, "output": "x"}, DatasetFormat.ALPACA, ("instruction",), "must be text"),
        ({"instruction": "x", "input": 1, "output": "x"}, DatasetFormat.ALPACA, ("input",), "may be empty"),
        ({"instruction": "x", "output": "x", "history": [["a", "b"]]}, DatasetFormat.ALPACA, ("history",), "messages"),
        ({"chosen": "x", "rejected": "y"}, DatasetFormat.PREFERENCE, ("prompt",), "is missing"),
        ({"prompt": "p", "chosen": "x", "rejected": "x"}, DatasetFormat.PREFERENCE, ("rejected",), "the same"),
        ({"prompt": "p", "chosen": "x", "rejected": [ANSWER]}, DatasetFormat.PREFERENCE, ("rejected",), "both"),
        ({"chosen": [USER, ANSWER], "rejected": [USER]}, DatasetFormat.PREFERENCE, ("rejected",), "both must answer"),
        (
            {"chosen": [USER, ANSWER], "rejected": [{"role": "user", "content": "?"}, ANSWER]},
            DatasetFormat.PREFERENCE,
            ("rejected",),
            "shares no prompt",
        ),
        (
            {"input": [USER], "preferred_output": [ANSWER], "non_preferred_output": [OTHER]},
            DatasetFormat.OPENAI_PREFERENCE,
            ("input",),
            "must be an object",
        ),
        (
            {"input": {"messages": [USER]}, "preferred_output": [USER], "non_preferred_output": [OTHER]},
            DatasetFormat.OPENAI_PREFERENCE,
            ("preferred_output",),
            "must begin",
        ),
        ({"text": "  "}, DatasetFormat.TEXT, ("text",), "not empty"),
        (
            {"system": "a", "conversations": [{"from": "system", "value": "b"}, {"from": "gpt", "value": "c"}]},
            DatasetFormat.SHAREGPT,
            ("system",),
            "of its own",
        ),
    ],
)
def test_the_faults_of_each_format_name_their_place(
    row: dict[str, Any], data_format: DatasetFormat, where: tuple[Any, ...], why: str
) -> None:
    faults, _ = check_row(row, data_format)
    said = {fault.where: fault.why for fault in faults}
    assert why in said[where]


def test_what_is_said_of_a_row_stays_small_however_large_the_row() -> None:
    faults, turns = check_row({"messages": [1] * 100_000}, DatasetFormat.MESSAGES)
    assert (len(faults), turns) == (100, 100_000)
    faults, _ = check_row({"messages": [{"role": "x" * 1_000_000}]}, DatasetFormat.MESSAGES)
    assert len(faults[0].why) < 200


NAMES = [
    *[
        "messages",
        "conversations",
        "prompt",
        "completion",
        "instruction",
        "input",
        "output",
        "chosen",
        "rejected",
        "text",
        "system",
        "history",
    ],
    *[
        "preferred_output",
        "non_preferred_output",
        "role",
        "content",
        "from",
        "value",
        "weight",
        "tools",
        "tool_calls",
        "function",
        "name",
        "id",
    ],
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
MESSAGE = st.sampled_from([USER, ANSWER, OTHER, CALL, RESULT]) | JSON


@given(
    row=JSON | st.dictionaries(st.sampled_from(NAMES), JSON | st.lists(MESSAGE, max_size=4), max_size=5),
    expected=st.sampled_from(DatasetFormat),
)
def test_no_row_whatever_it_holds_is_more_than_a_fault_and_what_has_none_can_be_read(
    row: Any, expected: DatasetFormat
) -> None:
    faults, _ = check_row(row, expected)
    if not faults:
        read = read_row(1, row, expected)
        json.dumps(read.__dict__)
