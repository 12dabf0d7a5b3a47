"""Datasets in S3: `<id>/data.jsonl`, then `<id>/metadata.json`. Until the second is there, nothing is."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import Invalid, NotFound, TooLarge
from hearth_contracts.names import is_record_id, new_id
from hearth_storage.objects import DATASETS, read_object
from hearth_web.asker import asker
from minio import Minio

from hearth_dataset.config import DatasetSettings
from hearth_dataset.multipart import FilePart
from hearth_dataset.validation import MOST_FAULTS, Validator

log = logging.getLogger(__name__)

PART_BYTES = 8 * 2**20  # several are in memory at once; S3 takes 10,000 of them, which is 80 GiB
SWEEP_AFTER = timedelta(hours=24)
READERS = 16


class _Faulty(Exception):
    """The file has faults: stop storing it, though the rest is still looked through."""


class _CheckedFile:
    """What the S3 client reads: the file's bytes out of the body's pieces, each checked on its way."""

    def __init__(self, pieces: Iterator[bytes], part: FilePart, validator: Validator, limit: int) -> None:
        self.pieces = pieces
        self.part = part
        self.validator = validator
        self.limit = limit
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end. Raises _Faulty at the first fault."""
        while len(self._ready) < size and self._pull():
            if self.validator.fault_count:
                raise _Faulty
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def drain(self) -> None:
        """Look through the rest, storing nothing."""
        self._ready.clear()
        while self._pull():
            self._ready.clear()

    def _pull(self) -> bool:
        piece = next(self.pieces, None)
        if piece is None:
            return False
        self.part.feed(piece)
        for data in self.part.taken:
            self.validator.feed(data)
            self._ready += data
        self.part.taken.clear()
        if self.validator.bytes > self.limit:
            raise TooLarge(f"the file is larger than {self.limit / 2**30:.0f} GiB; split it into several datasets")
        return True


def data_key(dataset_id: str) -> str:
    """Where the rows lie."""
    return f"{dataset_id}/data.jsonl"


def metadata_key(dataset_id: str) -> str:
    """Where the record lies; the reference's `s3_path`."""
    return f"{dataset_id}/metadata.json"


def ingest(
    s3: Minio,
    settings: DatasetSettings,
    part: FilePart,
    pieces: Iterator[bytes],
    description: str | None = None,
    check_form: Callable[[FilePart], None] = lambda _part: None,
) -> Dataset:
    """Store the file of a multipart body while checking it. On any error nothing is left of it.

    `check_form` looks at the body's other fields once it is read, and raises what it does not accept. Raises Invalid
    with a fault for each bad line (the first hundred), BadRequest, TooLarge.
    """
    validator = Validator(settings.dataset_max_line_bytes)
    source = _CheckedFile(pieces, part, validator, settings.dataset_max_bytes)
    dataset_id = new_id()
    try:
        try:
            reader: Any = source  # the SDK's type asks for a whole BinaryIO; it calls read(size) alone
            s3.put_object(
                bucket_name=DATASETS,
                object_name=data_key(dataset_id),
                data=reader,
                length=-1,
                part_size=PART_BYTES,
                content_type="application/jsonl",
            )
        except _Faulty:
            source.drain()
        name = part.finish()
        check_form(part)
        counts = validator.finish()
        if counts is None:
            shown = f"; the first {MOST_FAULTS} are listed" if validator.fault_count > MOST_FAULTS else ""
            raise Invalid(
                f"the file has {validator.fault_count} faults{shown}; nothing was stored", faults=validator.faults
            )
        dataset = Dataset(
            id=dataset_id,
            name=name,
            s3_path=metadata_key(dataset_id),
            description=description,
            format=counts.format,
            rows=counts.rows,
            turns=counts.turns,
            bytes=counts.bytes,
            sha256=counts.sha256,
            created_at=now(),
            owner=asker().key_id,
        )
        body = dataset.model_dump_json(indent=2).encode()
        s3.put_object(
            bucket_name=DATASETS,
            object_name=metadata_key(dataset_id),
            data=BytesIO(body),
            length=len(body),
            content_type="application/json",
        )
    except BaseException:
        s3.remove_object(bucket_name=DATASETS, object_name=data_key(dataset_id))
        raise
    return dataset


def find(s3: Minio, dataset_id: str) -> Dataset:
    """The dataset's record. Raises NotFound, also when it is another's than the asker's."""
    body = read_object(s3, DATASETS, metadata_key(dataset_id)) if is_record_id(dataset_id) else None
    dataset = Dataset.model_validate_json(body) if body is not None else None
    if dataset is None or not asker().may_use(dataset.owner):
        raise NotFound(f"there is no dataset {dataset_id!r}; GET /v1/datasets/ lists what there is")
    return dataset


def list_all(s3: Minio) -> list[Dataset]:
    """Every dataset that the asker may use, newest first."""
    prefixes = [str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS)]
    ids = [prefix.rstrip("/") for prefix in prefixes]
    with ThreadPoolExecutor(READERS) as pool:
        bodies = list(pool.map(lambda each: read_object(s3, DATASETS, metadata_key(each)), filter(is_record_id, ids)))
    found = [Dataset.model_validate_json(body) for body in bodies if body is not None]
    usable = [dataset for dataset in found if asker().may_use(dataset.owner)]
    return sorted(usable, key=lambda dataset: dataset.created_at, reverse=True)


def read_rows(s3: Minio, dataset: Dataset, chunk_bytes: int = 2**20) -> Iterator[bytes]:
    """The rows as they were uploaded, in pieces."""
    reply: Any = s3.get_object(bucket_name=DATASETS, object_name=data_key(dataset.id))
    try:
        yield from reply.stream(chunk_bytes)
    finally:
        reply.close()
        reply.release_conn()


def delete(s3: Minio, dataset_id: str) -> None:
    """Remove a dataset: first its record, so that it stops existing at once. Raises NotFound."""
    find(s3, dataset_id)
    s3.remove_object(bucket_name=DATASETS, object_name=metadata_key(dataset_id))
    s3.remove_object(bucket_name=DATASETS, object_name=data_key(dataset_id))


def sweep(s3: Minio) -> None:
    """Remove rows that never got their record: uploads whose service died. Leaves alone what is still young."""
    entries = list(s3.list_objects(bucket_name=DATASETS, recursive=True))
    whole = {str(e.object_name).partition("/")[0] for e in entries if str(e.object_name).endswith("/metadata.json")}
    for entry in entries:
        dataset_id, _, name = str(entry.object_name).partition("/")
        old = entry.last_modified is not None and datetime.now(UTC) - entry.last_modified > SWEEP_AFTER
        if name == "data.jsonl" and dataset_id not in whole and old:
            log.warning("removing %s: its upload was never finished", entry.object_name)
            s3.remove_object(bucket_name=DATASETS, object_name=str(entry.object_name))
