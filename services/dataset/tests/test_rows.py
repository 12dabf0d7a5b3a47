"""What is a conversation to learn from, and what is said of a row that is none."""

from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_dataset.rows import check_row

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
