"""Repeated rows are counted, exactly while they can be."""

import random

from hearth_dataset.duplicates import DuplicateCounter


def rows(distinct: int, repeated: int) -> list[bytes]:
    """So many rows, each there once, and the first `repeated` of them once more."""
    every = [str(number).encode() for number in [*range(distinct), *range(repeated)]]
    random.Random(1).shuffle(every)
    return every


def test_few_rows_are_counted_exactly() -> None:
    counter = DuplicateCounter(most_tracked=1_000)
    counter.add(rows(900, 300))
    assert (counter.count, counter.exact) == (300, True)


def test_a_row_that_comes_thrice_repeats_twice() -> None:
    counter = DuplicateCounter()
    counter.add([b"a", b"b", b"a"])
    counter.add([b"a"])
    assert counter.count == 2


def test_of_many_rows_a_sample_is_counted_and_memory_stays_bounded() -> None:
    counter = DuplicateCounter(most_tracked=4_000)
    counter.add(rows(100_000, 40_000))
    assert not counter.exact
    assert 30_000 < counter.count < 50_000  # three standard deviations and more
    assert len(counter._times) <= 4_000
