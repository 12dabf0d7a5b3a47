"""How many rows repeat an earlier one, in memory that does not grow with the file."""

MOST_TRACKED = 2**18
"""Distinct rows that are remembered: about 20 MB of 64-bit hashes."""


class DuplicateCounter:
    """Counts exactly while the distinct rows are few enough to remember, and a fair sample of them from there on.

    Which rows are in the sample is decided by their hash alone, so a row and its repetitions are in it together.
    Whenever it grows too large it is halved: that is adaptive sampling, whose error is about one part in 500 here.
    """

    def __init__(self, most_tracked: int = MOST_TRACKED) -> None:
        self._most_tracked = most_tracked
        self._seen: set[int] = set()
        self._repeated: dict[int, int] = {}
        self._mask = 0  # a row is in the sample when these bits of its hash are 0

    def add(self, rows: list[bytes]) -> None:
        """Look at some rows."""
        for row in rows:
            mark = hash(row)
            if mark & self._mask:
                continue
            if mark in self._seen:
                self._repeated[mark] = self._repeated.get(mark, 0) + 1
            else:
                self._seen.add(mark)
                if len(self._seen) > self._most_tracked:
                    self._halve()

    def _halve(self) -> None:
        self._mask = self._mask << 1 | 1
        self._seen = {mark for mark in self._seen if not mark & self._mask}
        self._repeated = {mark: count for mark, count in self._repeated.items() if not mark & self._mask}

    @property
    def count(self) -> int:
        """Rows that repeat an earlier row byte for byte; estimated unless `exact`."""
        return sum(self._repeated.values()) * (self._mask + 1)

    @property
    def exact(self) -> bool:
        """Whether every row was counted."""
        return self._mask == 0
