"""Files that are compressed, or Parquet, as the JSON lines in them; told by their first bytes, not their names."""

import gzip
import tempfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase, BytesIO
from itertools import chain
from typing import Any

from arro3.io import read_parquet, write_ndjson
from backports import zstd
from hearth_contracts.errors import BadRequest, HearthError, Invalid, TooLarge

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
CHUNK_BYTES = 2**18
LARGEST_WINDOW_LOG = 25
"""zstd keeps this much of what it unpacked, 32 MiB; `zstd -19` asks for 8, `--ultra -22` and `--long` for 128."""

MOST_EXPANSION = 200
"""Conversations shrink 3 to 20 times; what grows more than this is made to fill a disk."""

FREE_EXPANSION_BYTES = 64 * 2**20
"""A file this small is let off: one row repeated over and over shrinks a thousand times."""

PARQUET_ROWS_AT_ONCE = 16
LARGEST_PARQUET_BYTES = 2 * 2**30


class UnsupportedCoding(HearthError):
    """A Content-Encoding that is not read here."""

    status = 415


class _Pieces:
    """A file of pieces, for libraries that read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        self.given += len(data)
        return data


def decoded(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """A request's body without its Content-Encoding. Raises UnsupportedCoding, BadRequest, TooLarge."""
    if coding in ("", "identity"):
        return pieces
    if coding in ("gzip", "x-gzip"):
        return _unpacked(pieces, _open_gzip)
    if coding == "zstd":
        return _unpacked(pieces, _open_zstd)
    raise UnsupportedCoding(f"Content-Encoding {coding!r} is not read here; send gzip, zstd or no encoding")


def json_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a file that may be gzip, zstd or Parquet. Raises BadRequest, Invalid, TooLarge."""
    head = b""
    while len(head) < len(PARQUET) and (piece := next(pieces, None)) is not None:
        head += piece
    whole = chain([head], pieces)
    if head.startswith(GZIP):
        return _unpacked(whole, _open_gzip)
    if head.startswith(ZSTD):
        return _unpacked(whole, _open_zstd)
    if head.startswith(PARQUET):
        return _parquet_rows(whole)
    return whole


def _open_gzip(source: Any) -> BufferedIOBase:
    return gzip.GzipFile(fileobj=source, mode="rb")


def _open_zstd(source: Any) -> BufferedIOBase:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW_LOG}
    return zstd.ZstdFile(source, options=options)


def _unpacked(pieces: Iterator[bytes], open_file: Callable[[Any], BufferedIOBase]) -> Iterator[bytes]:
    packed = _Pieces(pieces)
    unpacked = open_file(packed)
    size = 0
    while True:
        try:
            data = unpacked.read(CHUNK_BYTES)
        except (EOFError, OSError, zlib.error, zstd.ZstdError) as error:
            raise BadRequest(f"the compressed file cannot be unpacked: {error}; send it again") from error
        if not data:
            return
        size += len(data)
        if size > FREE_EXPANSION_BYTES and size > MOST_EXPANSION * packed.given:
            raise TooLarge(f"the compressed file grows more than {MOST_EXPANSION} times; send it uncompressed")
        yield data


def _parquet_rows(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Parquet is read from its end, so it is laid on disk first."""
    with tempfile.TemporaryFile() as file:
        for piece in pieces:
            file.write(piece)
            if file.tell() > LARGEST_PARQUET_BYTES:
                size = LARGEST_PARQUET_BYTES // 2**30
                raise TooLarge(f"the Parquet file is larger than {size} GiB; send it as JSON lines or in parts")
        file.seek(0)
        batches = _parquet(lambda: iter(read_parquet(file, batch_size=PARQUET_ROWS_AT_ONCE)))
        while (batch := _parquet(lambda: next(batches, None))) is not None:
            lines = BytesIO()
            write_ndjson(batch, lines)
            yield lines.getvalue()


def _parquet(step: Callable[[], Any]) -> Any:
    """A step of the reader, which raises a bare Exception, and where it was not careful a Rust panic."""
    try:
        return step()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        why = error if isinstance(error, Exception) else "it ends before its table of contents"
        raise Invalid(f"the Parquet file cannot be read: {why}; send it again, or as JSON lines") from error
