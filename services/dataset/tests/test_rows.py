"""What is a conversation to learn from, and what is said of a row that is none."""

from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_dataset.rows import check_row
from hypothesis import given
from hypothesis import strategies as st

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ANSWER],
        [{"role": "system", "content": "be kind"}, USER, ANSWER, USER, ANSWER],
        [USER, ANSWER, USER],
        [USER, CALL, {"role": "tool", "content": "42"}, ANSWER],
        [USER, {**ANSWER, "weight": 0}],
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
        ([{"role": "user", "content": "a\ud83d"}, ANSWER], ("messages", 0, "content"), "holds \\ud83d"),
        ([USER, {"role": "assistant", "content": " "}], ("messages", 1, "content"), "not empty"),
        ([USER, {"role": "assistant", "content": 7}], ("messages", 1, "content"), "must be text"),
        ([USER], ("messages",), "no assistant message"),
        ([ANSWER], ("messages", 0), "must follow a user"),
        ([USER, USER, ANSWER], ("messages", 1), "two user messages"),
        ([USER, ANSWER, ANSWER], ("messages", 2), "two assistant messages"),
        ([USER, {"role": "system", "content": "x"}, ANSWER], ("messages", 1), "can only come first"),
        ([USER, {"role": "tool", "content": "x"}, ANSWER], ("messages", 1), "tool_calls"),
        ([{**USER, "weight": 1}, ANSWER], ("messages", 0, "weight"), "only assistant"),
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


def test_half_a_surrogate_pair_is_found_in_sharegpt_too() -> None:
    row = {"conversations": [{"from": "human", "value": "\udc00"}, {"from": "gpt", "value": "ho"}]}
    faults, _ = check_row(row, DatasetFormat.SHAREGPT)
    assert faults[0].where == ("conversations", 0, "value")


def test_what_is_said_of_a_row_stays_small_however_large_the_row() -> None:
    faults, turns = check_row({"messages": [1] * 100_000}, DatasetFormat.MESSAGES)
    assert (len(faults), turns) == (100, 100_000)
    faults, _ = check_row({"messages": [{"role": "x" * 1_000_000}]}, DatasetFormat.MESSAGES)
    assert len(faults[0].why) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["messages", "conversations", "role", "content", "from", "value", "weight", "tool_calls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(row=JSON, messages=st.lists(JSON, max_size=4), expected=st.sampled_from(DatasetFormat))
def test_no_row_whatever_it_holds_is_more_than_a_fault(row: Any, messages: list[Any], expected: DatasetFormat) -> None:
    check_row(row, expected)
    check_row({"messages": messages}, expected)
    check_row({"conversations": messages}, expected)
