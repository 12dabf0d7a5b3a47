"""How many rows repeat an earlier one, in memory that does not grow with the file."""

from collections import Counter

MOST_TRACKED = 2**18
"""Distinct rows that are remembered: about 20 MB of 64-bit hashes."""


class DuplicateCounter:
    """Counts exactly while the distinct rows are few enough to remember, and a fair sample of them from there on.

    Which rows are in the sample is decided by their hash alone, so a row and its repetitions are in it together.
    Whenever it grows too large it is halved: that is adaptive sampling, whose error is about one part in 500 here.
    """

    def __init__(self, most_tracked: int = MOST_TRACKED) -> None:
        self._most_tracked = most_tracked
        self._times: Counter[int] = Counter()  # by a row's hash
        self._mask = 0  # a row is in the sample when these bits of its hash are 0

    def add(self, rows: list[bytes]) -> None:
        """Look at some rows."""
        mask = self._mask
        self._times.update([mark for mark in map(hash, rows) if not mark & mask] if mask else map(hash, rows))
        while len(self._times) > self._most_tracked:
            self._halve()

    def _halve(self) -> None:
        self._mask = self._mask << 1 | 1
        self._times = Counter({mark: times for mark, times in self._times.items() if not mark & self._mask})

    @property
    def count(self) -> int:
        """Rows that repeat an earlier row byte for byte; estimated unless `exact`."""
        return (self._times.total() - len(self._times)) * (self._mask + 1)

    @property
    def exact(self) -> bool:
        """Whether every row was counted."""
        return self._mask == 0
