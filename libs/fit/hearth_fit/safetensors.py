"""The header of a safetensors file: which tensors it holds, of which type and shape, without reading any of them.

The format (https://huggingface.co/docs/safetensors): eight bytes with the header's length, little-endian; the header, a
JSON object of `{name: {dtype, shape, data_offsets}}` with `__metadata__` beside; then the tensors' bytes.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
}  # fmt: skip


class BadHeader(Exception):
    """This is no safetensors file; the message says what is wrong with it."""


@dataclass(frozen=True)
class Tensor:
    """One tensor, as its header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return self.elements * _BITS[self.dtype] // 8


def read_header(read: Callable[[int, int], bytes], size: int) -> tuple[Tensor, ...]:
    """The tensors of a file of `size` bytes, of which `read(offset, length)` gives a part. Raises BadHeader."""
    if size < LENGTH_BYTES:
        raise BadHeader(f"it has {size} bytes, too few for a header")
    length = int.from_bytes(read(0, LENGTH_BYTES), "little")
    if length > min(MOST_HEADER_BYTES, size - LENGTH_BYTES):
        raise BadHeader(f"its header would have {length} bytes, and the file has {size}")
    try:
        header = json.loads(read(LENGTH_BYTES, length))
        described = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = tuple(_tensor(name, entry) for name, entry in described.items())
        end = max((entry["data_offsets"][1] for entry in described.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise BadHeader(f"its header cannot be read: {error!r}") from error
    if LENGTH_BYTES + length + end != size:
        raise BadHeader(f"its header describes {LENGTH_BYTES + length + end} bytes, and the file has {size}")
    return tensors


def _tensor(name: str, entry: dict[str, Any]) -> Tensor:
    tensor = Tensor(name, str(entry["dtype"]), tuple(int(side) for side in entry["shape"]))
    first, last = entry["data_offsets"]
    if any(side < 0 for side in tensor.shape) or last - first != tensor.bytes:
        raise ValueError(f"{name} has shape {tensor.shape} of {tensor.dtype}, which is not {last - first} bytes")
    return tensor


def read_file(path: Path) -> tuple[Tensor, ...]:
    """The tensors of a file on disk. Raises BadHeader, OSError."""
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return read_header(read, path.stat().st_size)
