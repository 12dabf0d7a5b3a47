"""What processes that died have left in S3: removed once it is so old that nobody can still be at work on it."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from hearth_contracts.names import is_record_id
from hearth_storage.datasets import read_dataset, rows_key
from hearth_storage.objects import DATASETS
from hearth_storage.writer import STALE, abort_stale_uploads
from minio.datatypes import Object

from hearth_dataset.catalogue import INDEX, LEAVING, Catalogue
from hearth_dataset.uploads import KEPT, UPLOADS, remove_upload

log = logging.getLogger(__name__)


def sweep(catalogue: Catalogue, age: timedelta = STALE, upload_age: timedelta = KEPT) -> None:
    """Remove what is older than `age` and belongs to no dataset; put into the index what is missing there.

    Uploads in parts to which nothing was added for `upload_age` are given up.
    """
    abort_stale_uploads(catalogue.s3, DATASETS, age)
    _sweep_index(catalogue, age)
    _sweep_rows(catalogue, age)
    _sweep_uploads(catalogue, upload_age)
    for key in _old(catalogue, LEAVING, age):
        catalogue.s3.remove_object(bucket_name=DATASETS, object_name=key)


def _sweep_index(catalogue: Catalogue, age: timedelta) -> None:
    """Entries without their record: a process died between the two."""
    recorded = {dataset.id for dataset in catalogue.everyones()}
    for key in _old(catalogue, INDEX, age):
        dataset_id, _, content_id = key.removeprefix(INDEX).partition(".")
        if dataset_id not in recorded:
            log.warning("removing %s: it has no record", key)
            catalogue.s3.remove_object(bucket_name=DATASETS, object_name=key)
            catalogue.release(content_id)


def _sweep_rows(catalogue: Catalogue, age: timedelta) -> None:
    """Rows that nobody uses: an upload that was never recorded, or whose rows were there already."""
    entries = catalogue.entries()
    indexed, used = {dataset_id for dataset_id, _ in entries}, {content_id for _, content_id in entries}
    for entry in catalogue.s3.list_objects(bucket_name=DATASETS):
        found = str(entry.object_name).rstrip("/")
        if not is_record_id(found) or found in used:
            continue
        if found not in indexed and (dataset := read_dataset(catalogue.s3, found)) is not None:
            catalogue.adopt(dataset)
        elif any(_old(catalogue, rows_key(found), age)):
            log.warning("removing %s: no dataset uses it", rows_key(found))
            catalogue.release(found)


def _sweep_uploads(catalogue: Catalogue, age: timedelta) -> None:
    for entry in catalogue.s3.list_objects(bucket_name=DATASETS, prefix=UPLOADS):
        prefix = str(entry.object_name)
        parts = catalogue.s3.list_objects(bucket_name=DATASETS, prefix=prefix, recursive=True)
        if all(_is_old(part, age) for part in parts):
            log.warning("removing %s: it was given up", prefix)
            remove_upload(catalogue.s3, prefix.removeprefix(UPLOADS).rstrip("/"))


def _old(catalogue: Catalogue, prefix: str, age: timedelta) -> Iterator[str]:
    for entry in catalogue.s3.list_objects(bucket_name=DATASETS, prefix=prefix):
        if _is_old(entry, age) and not entry.is_dir:
            yield str(entry.object_name)


def _is_old(entry: Object, age: timedelta) -> bool:
    return entry.last_modified is not None and datetime.now(UTC) - entry.last_modified > age
