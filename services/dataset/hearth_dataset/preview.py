"""A few rows of a dataset as what they mean, read from any place in it without reading what is before."""

import json
import re
from dataclasses import dataclass

from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import Invalid
from hearth_contracts.preview import Preview
from hearth_contracts.rows import Row, read_row
from hearth_storage.datasets import stream_rows
from minio import Minio

MOST_BYTES = 8 * 2**20
"""A page ends with the row that fills it."""

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: a line's number, from 1, and its first byte."""

    line: int = 1
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.line}-{self.offset}"


def read_cursor(text: str | None) -> Cursor:
    """The place that an earlier page named. Raises Invalid."""
    if text is None:
        return Cursor()
    match = re.fullmatch(r"(\d{1,15})-(\d{1,15})", text)
    if match is None:
        raise Invalid("cursor: must be the `next` of an earlier page")
    return Cursor(int(match[1]), int(match[2]))


def preview(s3: Minio, dataset: Dataset, cursor: Cursor, limit: int) -> Preview:
    """Up to `limit` rows from `cursor` on, fewer when they are large. Raises Invalid where no row begins."""
    rows: list[Row] = []
    line, offset = cursor.line, cursor.offset
    if offset >= dataset.bytes:
        return Preview(rows=[], next=None)
    rest = b""
    pieces = stream_rows(s3, dataset, offset)
    try:
        while len(rows) < limit and offset - cursor.offset < MOST_BYTES:
            raw, newline, after = rest.partition(b"\n")
            if not newline and (piece := next(pieces, None)) is not None:
                rest += piece
                continue
            if not raw and not newline:
                return Preview(rows=rows, next=None)
            text = raw.removeprefix(BOM) if line == 1 else raw
            if text.strip():
                rows.append(_read(line, text, dataset))
            offset += len(raw) + len(newline)
            line += 1
            rest = after
    finally:
        pieces.close()
    return Preview(rows=rows, next=str(Cursor(line, offset)) if offset < dataset.bytes else None)


def _read(line: int, text: bytes, dataset: Dataset) -> Row:
    try:
        return read_row(line, json.loads(text), dataset.format)
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("cursor: no row begins there; use the `next` of an earlier page as it is") from error
