"""A whole file, whatever pieces it comes in."""

import hashlib
import json
from itertools import pairwise

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_dataset.validation import MOST_FAULTS, Counts, Validator
from hypothesis import given
from hypothesis import strategies as st

ROW = json.dumps({"messages": [{"role": "user", "content": "héllo"}, {"role": "assistant", "content": "ho"}]}).encode()


def check(data: bytes, pieces: list[int] | None = None, limit: int = 10_000) -> tuple[Counts | None, Validator]:
    validator = Validator(limit)
    cuts = sorted({0, len(data), *(cut % (len(data) + 1) for cut in pieces or [])})
    for start, end in pairwise(cuts):
        validator.feed(data[start:end])
    return validator.finish(), validator


def test_a_good_file_is_counted_and_hashed() -> None:
    data = ROW + b"\r\n\n" + ROW
    counts, _ = check(data)
    assert counts == Counts(DatasetFormat.MESSAGES, 2, 4, len(data), hashlib.sha256(data).hexdigest(), 0, True)


def test_a_long_file_is_checked_in_blocks_and_its_repeated_rows_are_counted() -> None:
    odd = ROW.replace(b'"ho"', b'[{"type": "text", "text": "ho"}]')  # good, but of no common kind
    data = b"\n".join([ROW] * 5_000 + [odd] + [ROW] * 5_000)
    counts, _ = check(data)
    assert counts is not None
    assert (counts.rows, counts.turns, counts.duplicates) == (10_001, 20_002, 9_999)
    _, validator = check(data + b"\n\n" + ROW.replace(b"user", b"bot") + b"\n" + b"\xff")
    assert [fault.loc[1] for fault in validator.faults] == [10_003, 10_004]


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\udc00"])
def test_half_a_surrogate_pair_is_refused_for_no_tokenizer_can_read_it(half: bytes) -> None:
    _, validator = check(ROW + b"\n" + ROW.replace(b"ho", half))
    assert "surrogate" in validator.faults[0].msg


def test_a_byte_order_mark_is_no_fault() -> None:
    counts, _ = check(b"\xef\xbb\xbf" + ROW)
    assert counts is not None


@given(
    pieces=st.lists(st.integers(0, 10_000), max_size=20),
    data=st.sampled_from(
        [
            ROW + b"\n" + ROW,
            ROW + b"\n{bad\n\xff",
            b"\xef\xbb\xbf" + ROW + b"\r\n\r\n \n" + ROW + b"\n\n",
            ROW + b"\n" + b"x" * 10_001 + b"\n" + ROW + b"\n" + b"x" * 10_001,
        ]
    )
    | st.lists(st.sampled_from([ROW, b"\n", b"\r\n", b"{", b"\xff", b"\xef\xbb\xbf", b" "]), max_size=12).map(b"".join),
)
def test_the_pieces_make_no_difference(pieces: list[int], data: bytes) -> None:
    whole, whole_validator = check(data)
    cut, cut_validator = check(data, pieces)
    assert (cut, cut_validator.faults) == (whole, whole_validator.faults)


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (b'{"messages": [', "not_json", "column"),
        (b'{"a": "\xff"}', "not_utf8", "byte 8"),
        (b"[1]", "value_error", "there is no 'messages'"),
        (b"x" * 200_000, "too_long", "longer than"),
        (b"[" * 100_000, "not_json", ""),
        (b'{"n": NaN}', "not_json", "NaN"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_still_looked_at(line: bytes, kind: str, words: str) -> None:
    counts, validator = check(ROW + b"\n" + line + b"\n" + ROW + b"\n{}", limit=150_000)
    assert counts is None
    assert [fault.loc[:2] for fault in validator.faults] == [["line", 2], ["line", 4]]
    assert validator.faults[0].type == kind
    assert words in validator.faults[0].msg


def test_after_a_hundred_faults_nobody_looks_further() -> None:
    _, validator = check(b"no\n" * 250)
    assert len(validator.faults) == MOST_FAULTS
    assert validator.full


def test_a_line_that_is_too_long_is_a_fault_before_it_ends() -> None:
    validator = Validator(max_line_bytes=1_000)
    validator.feed(ROW + b"\n{}\n" + b"x" * 1_001)
    assert [fault.loc[1] for fault in validator.faults] == [2, 3]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_a_fault(data: bytes) -> None:
    counts, validator = check(data)
    assert counts is None
    assert "no rows" in validator.faults[0].msg
