"""Where a dataset lies in S3, and how it is read. The dataset service alone writes.

`<id>/metadata.json` is the record: until it is there, the dataset does not exist. The rows lie at
`<content id>/data.jsonl`; datasets of the same bytes share one content.
"""

from collections.abc import Generator
from typing import Any

from hearth_contracts.datasets import Dataset
from hearth_contracts.names import is_record_id
from minio import Minio

from hearth_storage.objects import DATASETS, read_object

CHUNK_BYTES = 2**20


def metadata_key(dataset_id: str) -> str:
    """Where a dataset's record lies; the reference's `s3_path`."""
    return f"{dataset_id}/metadata.json"


def rows_key(content_id: str) -> str:
    """Where the rows of a content lie."""
    return f"{content_id}/data.jsonl"


def content_of(dataset: Dataset) -> str:
    """The content that a dataset's rows are; its own, unless they are shared."""
    return dataset.content_id or dataset.id


def read_dataset(client: Minio, dataset_id: str) -> Dataset | None:
    """The record of a dataset, or None when there is none (or `dataset_id` cannot be an id)."""
    body = read_object(client, DATASETS, metadata_key(dataset_id)) if is_record_id(dataset_id) else None
    return None if body is None else Dataset.model_validate_json(body)


def stream_rows(
    client: Minio, dataset: Dataset, offset: int = 0, length: int | None = None
) -> Generator[bytes, None, None]:
    """The rows' bytes in pieces: all of them, or `length` from `offset` on."""
    reply: Any = client.get_object(
        bucket_name=DATASETS,
        object_name=rows_key(content_of(dataset)),
        offset=offset,
        length=length or 0,
    )
    try:
        yield from reply.stream(CHUNK_BYTES)
    finally:
        reply.close()
        reply.release_conn()
