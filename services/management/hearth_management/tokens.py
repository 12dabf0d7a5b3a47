"""How many tokens a dataset has by a model's tokenizer, which a process of its own counts (`tokenizing`).

A tokenizer may hold hundreds of megabytes, and comes from whoever made the model: neither stays in this service.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hearth_contracts.datasets import Dataset, TokenCount
from hearth_contracts.errors import Invalid, Unavailable
from hearth_contracts.rows import read_row, texts_of
from hearth_storage.datasets import stream_rows
from hearth_storage.model_store import snapshot_path
from minio import Minio

from hearth_management.finetune import require_dataset
from hearth_management.models import require_base
from hearth_management.services import Services
from hearth_management.tokenizing import Counted

WHOLE_BYTES = 32 * 2**20
"""Up to here every row is counted, which takes some ten seconds."""

PARTS = 32
"""Of a larger dataset so many parts are counted, spread over it evenly, WHOLE_BYTES in all."""

MOST_SECONDS = 120.0

ENVIRONMENT: dict[str, str] = {}
"""Of the process that counts: this service's secrets are no business of a model's files."""


def count_tokens(services: Services, model_id: str, dataset_id: str) -> TokenCount:
    """Count. Raises NotFound, Invalid, Unavailable."""
    base = require_base(services, model_id)
    dataset = require_dataset(services, dataset_id)
    tokenizer = snapshot_path(services.home.models, base) / "tokenizer.json"
    if not tokenizer.is_file():
        raise Invalid(
            f"{model_id} has no tokenizer.json, so tokens cannot be counted with it; add a model that has one"
        )
    with tempfile.TemporaryFile() as texts:
        read = _write_texts(services.s3, dataset, texts)
        counted = _tokenize(model_id, tokenizer, texts)
    return TokenCount(
        model_id=model_id,
        dataset_id=dataset.id,
        rows=dataset.rows,
        tokens=round(counted.tokens * dataset.bytes / read) if read else 0,
        longest_row=counted.longest_row,
        exact=read == dataset.bytes,
    )


def _tokenize(model_id: str, tokenizer: Path, texts: IO[bytes]) -> Counted:
    texts.seek(0)
    command = [sys.executable, "-m", "hearth_management.tokenizing", str(tokenizer)]
    try:
        done = subprocess.run(
            command, stdin=texts, capture_output=True, text=True, timeout=MOST_SECONDS, check=False, env=ENVIRONMENT
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"tokens were not counted within {MOST_SECONDS:.0f} s: this machine is busy") from late
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise Invalid(f"the tokenizer.json of {model_id} cannot be used: {reason}")
    return Counted.model_validate_json(done.stdout)


def _write_texts(s3: Minio, dataset: Dataset, file: IO[bytes]) -> int:
    """What each row says, as a JSON list a line; how many of the dataset's bytes were read for it."""
    read = 0
    for line in _lines(s3, dataset):
        read += len(line)
        text = line.decode("utf-8-sig").strip()
        if text:
            row = read_row(0, json.loads(text, parse_int=float), dataset.format)
            file.write(json.dumps(texts_of(row)).encode() + b"\n")
    return read


def _lines(s3: Minio, dataset: Dataset) -> Iterator[bytes]:
    if dataset.bytes <= WHOLE_BYTES:
        yield from _split(stream_rows(s3, dataset))
        return
    size = WHOLE_BYTES // PARTS
    for part in range(PARTS):
        begin = part * (dataset.bytes - size) // (PARTS - 1)
        lines = list(_split(stream_rows(s3, dataset, begin, size)))
        yield from lines[1 if begin else 0 : -1]  # the first and the last are cut


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their ends."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).splitlines(keepends=True)
        yield from lines
    if rest:
        yield rest
