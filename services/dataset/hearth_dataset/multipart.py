"""The file of a multipart/form-data body (RFC 7578), piece by piece as it arrives; only short text fields are kept."""

import re
import unicodedata
from collections.abc import Iterator

from hearth_contracts.errors import BadRequest, Invalid
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

FIELD = "file"
LONGEST_NAME = 255
LONGEST_FIELD = 4096
MOST_FIELDS = 16


class FilePart:
    """The form of one body. `file` reads it; then `fields` and `finish` tell what else it said."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise Invalid("the body must be multipart/form-data with a field `file`, e.g. curl -F 'file=@train.jsonl'")
        self.name: str | None = None  # the file's name, once its part has begun
        self._taken: list[bytes] = []
        self._inside = False
        self._field: str | None = None
        self._texts: dict[str, bytes] = {}
        self._header = b""
        self._value = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_part_data": self._part_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise BadRequest(f"the multipart boundary cannot be used: {error}") from error

    def file(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The file's bytes out of the body's pieces. Raises BadRequest, and at the end what `finish` raises."""
        for piece in pieces:
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise BadRequest(f"the multipart body cannot be read: {error}") from error
            yield from self._taken
            self._taken.clear()
        self.finish()

    @property
    def fields(self) -> dict[str, str]:
        """The text of the other parts, by name."""
        return {name: text.decode("utf-8", "replace") for name, text in self._texts.items()}

    def finish(self) -> str:
        """The file's name. Raises BadRequest for a body cut short, Invalid for one without a file."""
        if not self._ended:
            raise BadRequest("the multipart body ends before its closing boundary; send it again")
        if self.name is None:
            raise Invalid(f"the form has no file in the field `{FIELD}`")
        return self.name

    def _part_begins(self) -> None:
        self._inside = False
        self._field = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            if options.get(b"name") == FIELD.encode() and self.name is None:
                self.name = safe_name(options.get(b"filename", b"").decode("utf-8", "replace"))
                self._inside = True
            elif options.get(b"name") and len(self._texts) < MOST_FIELDS:
                self._field = options[b"name"].decode("utf-8", "replace")
        self._header = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._taken.append(data[start:end])
        elif self._field is not None:
            text = self._texts.get(self._field, b"") + data[start:end]
            if len(text) > LONGEST_FIELD:
                raise BadRequest(f"the form's field {self._field!r} is longer than {LONGEST_FIELD} bytes")
            self._texts[self._field] = text

    def _end(self) -> None:
        self._ended = True


def safe_name(given: str) -> str:
    """A file's name as it may be shown and sent in a header: its last part, without control characters."""
    last = re.split(r"[/\\]", given)[-1]
    kept = "".join(char for char in last if unicodedata.category(char)[0] != "C").strip()
    return kept[:LONGEST_NAME] if kept not in ("", ".", "..") else "dataset.jsonl"
