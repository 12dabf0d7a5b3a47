"""What processes that died have left in S3: mended or removed once it is so old that nobody can still be at work on
it."""

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta

from hearth_contracts.names import is_record_id
from hearth_storage.datasets import content_of, metadata_key, read_dataset
from hearth_storage.listing import Listed, list_keys, seconds
from hearth_storage.log import sweep_log
from hearth_storage.objects import DATASETS, object_size, remove_objects
from hearth_storage.writer import STALE, abort_stale_uploads
from minio import Minio

from hearth_dataset.adoption import INDEX, adopt, recorded_by
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.contents import LEAVING, USES, Use, release_all, use_of
from hearth_dataset.uploads import KEPT, UPLOADS, remove_upload

log = logging.getLogger(__name__)

ROWS = "/data.jsonl"


@dataclass
class _Found:
    """What one listing of the bucket showed."""

    records: set[str] = field(default_factory=set)
    old_rows: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)  # datasets that use some content
    contents: set[str] = field(default_factory=set)  # that some dataset uses
    old_uses: list[Use] = field(default_factory=list)  # without a record
    uploads: dict[str, bool] = field(default_factory=dict)  # whether each was given up


def sweep(catalogue: Catalogue, age: timedelta = STALE, upload_age: timedelta = KEPT) -> None:
    """Mend what died, and remove what is older than `age` and belongs to no dataset; write a snapshot for processes
    to come.

    A listing may leave a name out, and what is removed is gone for good: whatever would go for want of a record is
    asked for that record by itself first. Uploads in parts to which nothing was added for `upload_age` are given up.
    """
    s3 = catalogue.s3

    def exists(dataset_id: str) -> bool:
        return object_size(s3, DATASETS, metadata_key(dataset_id)) is not None

    catalogue.register.prepare(patience=-1)
    abort_stale_uploads(s3, DATASETS, age)
    found = _look(s3, age, upload_age)
    mended = sweep_log(s3, DATASETS, found.records, exists, age)  # after the records were listed
    found.contents |= adopt(s3, mended.unlogged | (found.records - found.users))
    for dataset_id in mended.unlisted:
        if (dataset := read_dataset(s3, dataset_id)) is not None:
            found.contents.add(content_of(dataset))
    for dataset_id in mended.undeleted:
        if (dataset := read_dataset(s3, dataset_id)) is not None:
            log.warning("deleting %s: whoever began that has died", dataset_id)
            catalogue.delete(dataset)
    _sweep_contents(s3, found)
    for upload_id, given_up in found.uploads.items():
        folder = f"{UPLOADS}{upload_id}/"
        if given_up and all(_is_old(each, upload_age) for each in list_keys(s3, DATASETS, folder)):  # still, and again
            log.warning("removing the upload %s: it was given up", upload_id)
            remove_upload(s3, upload_id)
    for marks in (LEAVING, INDEX):  # looked at only now: one that was old may have been set anew meanwhile
        remove_objects(s3, DATASETS, [each.key for each in list_keys(s3, DATASETS, marks) if _is_old(each, age)])
    catalogue.register.save(mended.existing)


def _look(s3: Minio, age: timedelta, upload_age: timedelta) -> _Found:
    """Everything in the bucket once, by key: `uses/` comes after records and rows, so none of them lacks its entry."""
    found = _Found()
    for listed in list_keys(s3, DATASETS):
        top, _, name = listed.key.partition("/")
        if is_record_id(top):
            if recorded_by(listed.key):
                found.records.add(top)
            elif listed.key.endswith(ROWS) and _is_old(listed, age):
                found.old_rows.add(top)
        elif listed.key.startswith(USES) and (use := use_of(listed.key)) is not None:
            found.users.add(use.dataset_id)
            if use.dataset_id not in found.records and _is_old(listed, age):
                found.old_uses.append(use)
            else:
                found.contents.add(use.content_id)
        elif listed.key.startswith(UPLOADS):
            upload_id = name.partition("/")[0]
            found.uploads[upload_id] = found.uploads.get(upload_id, True) and _is_old(listed, upload_age)
    return found


def _sweep_contents(s3: Minio, found: _Found) -> None:
    """Entries without their record, and rows that nobody uses: a process died between two steps."""

    def is_used(content_id: str, by: str) -> bool:
        dataset = read_dataset(s3, by)
        if dataset is None or content_of(dataset) != content_id:
            return False
        log.error("S3's listing leaves names of %s out, whose record is there", by)
        found.contents.add(content_id)
        return True

    unused = []
    for use in found.old_uses:
        if not is_used(use.content_id, use.dataset_id):
            log.warning("removing %s: it has no record", use.key)
            unused.append(use.key)
    remove_objects(s3, DATASETS, unused)
    rows = {content_id for content_id in found.old_rows - found.contents if not is_used(content_id, content_id)}
    for content_id in release_all(s3, rows - found.contents):
        log.warning("removed the rows %s: no dataset used them", content_id)


def _is_old(listed: Listed, age: timedelta) -> bool:
    return time.time() - seconds(listed.modified) > age.total_seconds()
