"""A whole file, checked as it streams by: bytes in, faults and counts out. Memory is one line's."""

import hashlib
import json
from dataclasses import dataclass

from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.errors import Fault
from hearth_contracts.rows import KEYS, format_of

from hearth_dataset.rows import check_row

MOST_FAULTS = 100
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


class Validator:
    """Feed it the file's bytes, in pieces of any size, then `finish`."""

    def __init__(self, max_line_bytes: int) -> None:
        self.faults: list[Fault] = []
        self.fault_count = 0
        self.bytes = 0
        self._max_line_bytes = max_line_bytes
        self._digest = hashlib.sha256()
        self._format: DatasetFormat | None = None
        self._line = 0
        self._rows = 0
        self._turns = 0
        self._rest = bytearray()  # of the line that is not whole yet
        self._skipping = False  # the rest of a line that was too long

    def feed(self, data: bytes) -> None:
        """Check the lines that end in `data`."""
        self.bytes += len(data)
        self._digest.update(data)
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            self._end_line()
        self._add(rest)

    def finish(self) -> Counts | None:
        """Check the last line. What the file holds, or None when there are faults."""
        if self._rest or self._skipping:
            self._end_line()
        if not self._rows and not self.fault_count:
            self._fault([], "the file has no rows; it needs one conversation a line", "empty")
        if self.fault_count or self._format is None:
            return None
        return Counts(self._format, self._rows, self._turns, self.bytes, self._digest.hexdigest())

    def _add(self, piece: bytes) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > self._max_line_bytes:
            limit = self._max_line_bytes
            self._fault(["line", self._line + 1], f"is longer than {limit} bytes; split the conversation", "too_long")
            self._skipping = True
            self._rest.clear()
            return
        self._rest += piece

    def _end_line(self) -> None:
        self._line += 1
        line, skipped = bytes(self._rest), self._skipping
        self._rest.clear()
        self._skipping = False
        if self._line == 1 and line.startswith(BOM):
            line = line[len(BOM) :]
        if not skipped and line.strip():
            self._check(line)

    def _check(self, line: bytes) -> None:
        self._rows += 1
        place: list[str | int] = ["line", self._line]
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            self._fault(place, f"is not UTF-8 at byte {error.start + 1}; save the file as UTF-8", "not_utf8")
            return
        except json.JSONDecodeError as error:
            self._fault(place, f"is not JSON at column {error.colno}: {error.msg}", "not_json")
            return
        except RecursionError:
            self._fault(place, "is nested too deeply", "not_json")
            return
        except ValueError as error:  # a number of thousands of digits
            self._fault(place, f"cannot be read: {error}", "not_json")
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

    def _fault(self, loc: list[str | int], msg: str, kind: str) -> None:
        self.fault_count += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(loc=loc, msg=msg, type=kind))
