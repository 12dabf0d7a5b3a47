"""Compressed files, Parquet, and those that pretend."""

import gzip
import json
from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from arro3.io import infer_json_schema, read_json, write_parquet
from backports import zstd
from hearth_contracts.errors import BadRequest, Invalid, TooLarge
from hearth_dataset import decoding
from hearth_dataset.decoding import UnsupportedCoding, decoded, json_lines
from hypothesis import given
from hypothesis import strategies as st

ROWS = [
    {"messages": [{"role": "user", "content": f"héllo {number}"}, {"role": "assistant", "content": "ho"}]}
    for number in range(100)
]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def parquet(lines: bytes) -> bytes:
    source, out = BytesIO(lines), BytesIO()
    schema = infer_json_schema(source)
    source.seek(0)
    write_parquet(read_json(source, schema), out)
    return out.getvalue()


PARQUET = parquet(LINES)


def wide(data: bytes) -> bytes:
    """What `zstd --long=27` makes: its reader needs 128 MiB."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    return compressor.compress(data) + compressor.flush()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@given(
    size=st.integers(1, 5_000),
    data=st.sampled_from(
        [
            LINES,
            gzip.compress(LINES),
            gzip.compress(LINES[:500]) + gzip.compress(LINES[500:]),
            zstd.compress(LINES),
            zstd.compress(LINES[:500]) + zstd.compress(LINES[500:]),
        ]
    ),
)
def test_what_a_file_is_is_told_by_its_first_bytes_whatever_pieces_it_comes_in(size: int, data: bytes) -> None:
    assert b"".join(json_lines(cut(data, size))) == LINES


def test_parquet_becomes_the_rows_it_holds_and_absent_values_stay_absent() -> None:
    lines = b"".join(json_lines(cut(PARQUET, 1_000)))
    assert [json.loads(line) for line in lines.splitlines()] == ROWS
    weighted = [{"messages": [{"role": "assistant", "weight": 1}]}, {"messages": [{"role": "assistant"}]}]
    lines = b"".join(json_lines(iter([parquet(b"\n".join(json.dumps(row).encode() for row in weighted))])))
    assert [json.loads(line) for line in lines.splitlines()] == weighted


@pytest.mark.parametrize("coding", ["gzip", "zstd", ""])
def test_a_body_is_read_by_its_content_encoding(coding: str) -> None:
    packed = {"gzip": gzip.compress, "zstd": zstd.compress, "": bytes}[coding](LINES)
    assert b"".join(decoded(cut(packed, 100), coding)) == LINES


def test_another_content_encoding_is_refused() -> None:
    with pytest.raises(UnsupportedCoding, match="send gzip, zstd"):
        decoded(iter([b""]), "br")


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(LINES)[:-20],
        gzip.compress(LINES) + b"garbage",
        gzip.compress(LINES)[:50] + b"\xff" * 100,
        zstd.compress(LINES)[:-20],
        zstd.compress(LINES)[:20] + b"\xff" * 100,
        wide(LINES),
    ],
)
def test_a_compressed_file_that_is_cut_broken_or_wants_too_much_memory_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="cannot be unpacked"):
        b"".join(json_lines(cut(data, 64)))


@pytest.mark.parametrize(
    "data", [b"PAR1", b"PAR1" + b"x" * 1_000, PARQUET[:-30], PARQUET[:100] + b"\x00" * 200 + PARQUET[300:]]
)
def test_a_broken_parquet_file_is_refused_with_words(data: bytes) -> None:
    with pytest.raises(Invalid, match="the Parquet file cannot be read"):
        b"".join(json_lines(iter([data])))


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_bomb_is_defused_before_it_has_grown(pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "FREE_EXPANSION_BYTES", 2**20)
    bomb = pack(b"\n" * 2**23)
    sizes: list[int] = []
    with pytest.raises(TooLarge, match="grows more than"):
        sizes.extend(len(data) for data in json_lines(iter([bomb])))
    assert max(sizes) <= decoding.CHUNK_BYTES
    assert sum(sizes) < 2**22


def test_too_large_a_parquet_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGEST_PARQUET_BYTES", 1_000)
    with pytest.raises(TooLarge, match="Parquet"):
        b"".join(json_lines(iter([PARQUET])))
