"""File names from strangers."""

import pytest
from hearth_dataset.multipart import safe_name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("train.jsonl", "train.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\train.jsonl", "train.jsonl"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("Беседы.jsonl", "Беседы.jsonl"),
        ("..", "dataset.jsonl"),
        ("a/..\\", "dataset.jsonl"),
        ("train\x00\x1b[2J\u202e.jsonl", "train[2J.jsonl"),
        (" \t\n ", "dataset.jsonl"),
        ("", "dataset.jsonl"),
        ("x" * 300, "x" * 255),
    ],
)
def test_a_name_is_its_last_part_without_control_characters(given: str, kept: str) -> None:
    assert safe_name(given) == kept
