"""A whole file, checked as it streams by: bytes in, faults and counts out. Memory is one block's and one line's."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import msgspec
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.errors import Fault
from hearth_contracts.rows import KEYS, format_of

from hearth_dataset.common_rows import turns_of
from hearth_dataset.duplicates import DuplicateCounter
from hearth_dataset.rows import check_row

MOST_FAULTS = 100
BLOCK_BYTES = 2**18
"""Lines are checked so many at a time: what is done once a block costs little, and a block fits in a cache."""

KNOWN = "; ".join(" and ".join(f"`{key}`" for key in keys) for keys in KEYS)
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Counts:
    """What a file without faults holds."""

    format: DatasetFormat
    rows: int
    turns: int
    bytes: int
    sha256: str
    duplicates: int
    duplicates_exact: bool


class Validator:
    """Feed it the file's bytes, in pieces of any size, then `finish`. After a hundred faults it looks no further."""

    def __init__(self, max_line_bytes: int) -> None:
        self.faults: list[Fault] = []
        self.bytes = 0
        self._max_line_bytes = max_line_bytes
        self._digest = hashlib.sha256()
        self._duplicates = DuplicateCounter()
        self._format: DatasetFormat | None = None
        self._line = 0
        self._rows = 0
        self._turns = 0
        self._block: list[bytes] = []  # whole lines
        self._block_bytes = 0
        self._tail: list[bytes] = []  # of the line that is not whole yet
        self._tail_bytes = 0
        self._skipping = False  # the rest of a line that was too long

    @property
    def full(self) -> bool:
        """Whether there are as many faults as will be told."""
        return len(self.faults) >= MOST_FAULTS

    def feed(self, data: bytes) -> None:
        """Check lines that have come in whole; a few may be kept for the next call."""
        self.bytes += len(data)
        self._digest.update(data)
        if self._skipping:
            _, newline, data = data.partition(b"\n")
            if not newline:
                return
            self._skipping = False
            self._line += 1
        cut = data.rfind(b"\n") + 1
        if cut:
            self._block += [*self._tail, data[:cut]]
            self._block_bytes += self._tail_bytes + cut
            self._tail, self._tail_bytes = [], 0
        if self._block_bytes >= BLOCK_BYTES:
            self._check_block()
        self._tail.append(data[cut:])
        self._tail_bytes += len(data) - cut
        if self._tail_bytes > self._max_line_bytes:
            self._check_block()
            self._too_long(self._line + 1)
            self._tail, self._tail_bytes = [], 0
            self._skipping = True

    def finish(self) -> Counts | None:
        """Check the last lines. What the file holds, or None when there are faults."""
        self._block += self._tail
        self._tail = []
        self._check_block()
        if not self._rows and not self.faults:
            self._fault([], "the file has no rows; it needs one a line", "empty")
        if self.faults or self._format is None:
            return None
        return Counts(
            format=self._format,
            rows=self._rows,
            turns=self._turns,
            bytes=self.bytes,
            sha256=self._digest.hexdigest(),
            duplicates=self._duplicates.count,
            duplicates_exact=self._duplicates.exact,
        )

    def _check_block(self) -> None:
        block = b"".join(self._block)
        self._block, self._block_bytes = [], 0
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        begins = self._line
        self._line += len(lines)
        rows = [line for line in lines if not line.isspace() and line]
        if begins and not self.faults and self._format and len(block) <= self._max_line_bytes:
            turns = turns_of(rows, self._format) if _is_utf8(block) else None
            if turns is not None:
                self._duplicates.add(rows)
                self._rows += len(rows)
                self._turns += turns
                return
        for number, line in enumerate(lines, start=begins + 1):
            if self.full:
                return
            self._check_line(number, line)

    def _check_line(self, number: int, line: bytes) -> None:
        place: list[str | int] = ["line", number]
        if len(line) > self._max_line_bytes:
            self._too_long(number)
            return
        if number == 1:
            line = line.removeprefix(BOM)
        if not line or line.isspace():
            return
        self._rows += 1
        if self._format and _is_utf8(line) and (turns := turns_of([line], self._format)) is not None:
            self._turns += turns
        else:
            self._check_closely(place, line)
        self._duplicates.add([line])

    def _check_closely(self, place: list[str | int], line: bytes) -> None:
        try:
            row: Any = msgspec.json.decode(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            self._fault(place, f"is not UTF-8 at byte {error.start + 1}; save the file as UTF-8", "not_utf8")
            return
        except RecursionError:
            self._fault(place, "is nested too deeply", "not_json")
            return
        except msgspec.MsgspecError:
            self._fault(place, _why_not_json(line), "not_json")
            return
        if self._format is None:
            self._format = format_of(row)
            if self._format is None:
                self._fault(place, f"must be an object with the keys of a known format: {KNOWN}", "format")
                return
        faults, turns = check_row(row, self._format)
        self._turns += turns
        for fault in faults:
            self._fault([*place, *fault.where], fault.why, "value_error")

    def _too_long(self, number: int) -> None:
        self._fault(["line", number], f"is longer than {self._max_line_bytes} bytes; split the row", "too_long")

    def _fault(self, loc: list[str | int], msg: str, kind: str) -> None:
        if not self.full:
            self.faults.append(Fault(loc=loc, msg=msg, type=kind))


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _why_not_json(line: bytes) -> str:
    """The column and the reason, as Python's own reader says them; it takes some things that are not JSON."""
    try:
        json.loads(line)
    except json.JSONDecodeError as known:
        return f"is not JSON at column {known.colno}: {known.msg}"
    except (ValueError, RecursionError):
        pass
    return "is not JSON: it holds NaN, Infinity, a number out of range, or one half of a surrogate pair"
