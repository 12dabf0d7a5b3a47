"""One file on its way, so that a download that was killed goes on where it ended.

huggingface_hub keeps what is whole, but it throws partial files away (their names are unique to a process). So a file
is brought into `partial/<sha256>` in the model's folder, and is moved to where it belongs once its hash is right.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from hearth_contracts.models import ModelFile
from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE
from huggingface_hub.file_download import http_get

from hearth_models.refusals import Refused

PARTIAL = "partial"
PORTION = MAX_HTTP_DOWNLOAD_SIZE
"""Bytes of a file that are asked for at once: the hub gives no more in one answer."""


def bring_file(url: str, file: ModelFile, partial: Path, headers: Mapping[str, str]) -> Path:
    """Bring a file into the folder `partial`, whole and of the hash that it must have; gives its path there.

    Raises Refused, and what the hub's client raises.
    """
    path = partial / file.sha256
    if path.exists() and path.stat().st_size > file.bytes:
        path.unlink()
    with path.open("ab", buffering=0) as sink:
        while (begin := sink.tell()) < file.bytes:
            stop = min(begin + PORTION, file.bytes)
            asked = dict(headers) if stop == file.bytes else {**headers, "Range": f"bytes=0-{stop - 1}"}
            # Its sleep and retries are the client's, and the range's beginning is by `resume_size`; of the headers, a
            # redirect to another host drops HF_TOKEN.
            http_get(url, sink, resume_size=begin, expected_size=stop, headers=asked)
        os.fsync(sink.fileno())
    with path.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != file.sha256:
        path.unlink()
        raise Refused(
            f"{file.name} came with SHA-256 {found}, and {file.sha256} is right: what came is thrown away. Try again; "
            "if that does not help, it is damaged where it lies, or by a disk, a proxy, or the mirror in HF_ENDPOINT"
        )
    return path


def bytes_of(paths: Iterable[Path]) -> int:
    """How many bytes there are in these files. One that is renamed meanwhile is none."""
    return sum(_sizes(paths))


def _sizes(paths: Iterable[Path]) -> Iterable[int]:
    for path in paths:
        try:
            yield path.stat().st_size
        except FileNotFoundError:
            continue
