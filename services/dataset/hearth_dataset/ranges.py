"""Range requests (RFC 9110, 14): which bytes a client wants of a file that never changes. Pure."""

import re
from dataclasses import dataclass

_ONE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")


class Unsatisfiable(Exception):
    """The range begins past the end of the file."""


@dataclass(frozen=True)
class Span:
    """`length` bytes from `start` on."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The header that says which bytes these are."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def wanted(size: int, etag: str, range_header: str | None, if_range: str | None) -> Span | None:
    """The bytes asked for, or None for the whole file. Raises Unsatisfiable.

    Whole is also what several ranges at once get, or one that is malformed, or one of another version: a server may
    always answer so. A date in If-Range never matches, since what it is about has no validator but its ETag.
    """
    if range_header is None or (if_range is not None and if_range != etag):
        return None
    match = _ONE.fullmatch(range_header.strip())
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None  # malformed: to be ignored
    if start >= size or end < start:
        raise Unsatisfiable
    return Span(start, end - start + 1)


def matches(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has this version already."""
    if if_none_match is None:
        return False
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return "*" in known or etag in known
