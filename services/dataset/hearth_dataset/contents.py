"""Rows that several datasets share, and who uses them.

| object | says |
| --- | --- |
| `<content id>/data.jsonl` | rows; the first dataset that had them gave them its id |
| `uses/<sha256>.<content id>.<dataset id>` | this dataset uses this content, whose bytes have this hash |
| `leaving/<content id>` | somebody is about to remove this content |

Who has the same bytes, and whether anybody still uses a content, is one small listing. Content goes with its last
user. That no dataset begins to use what is just being removed is settled without a lock: who uses first writes its
entry and then looks whether the content is leaving; who removes first says so and then looks for entries. Whichever
came second sees the other.
"""

from collections.abc import Collection
from typing import NamedTuple

from hearth_storage.datasets import rows_key
from hearth_storage.listing import list_keys
from hearth_storage.objects import DATASETS, object_size, remove_objects, write_object
from minio import Minio

USES = "uses/"
LEAVING = "leaving/"


class Use(NamedTuple):
    """A dataset that uses a content."""

    sha256: str
    content_id: str
    dataset_id: str

    @property
    def key(self) -> str:
        """The object that says so."""
        return f"{USES}{self.sha256}.{self.content_id}.{self.dataset_id}"


def use_of(key: str) -> Use | None:
    """What an object under `uses/` says."""
    parts = key.removeprefix(USES).split(".")
    return Use(*parts) if len(parts) == 3 else None


def begin_use(s3: Minio, use: Use) -> bool:
    """Use a content; whether it stays, and so may be used. If not, `end_use` is the caller's."""
    write_object(s3, DATASETS, use.key)
    return use.content_id == use.dataset_id or (
        object_size(s3, DATASETS, f"{LEAVING}{use.content_id}") is None
        and object_size(s3, DATASETS, rows_key(use.content_id)) is not None
    )


def end_use(s3: Minio, use: Use) -> None:
    """Use it no more. Its rows stay until `release`."""
    s3.remove_object(bucket_name=DATASETS, object_name=use.key)


def find_content(s3: Minio, sha256: str) -> str | None:
    """The content that has these bytes, or None."""
    return next((use.content_id for use in _uses(s3, f"{sha256}.")), None)


def release(s3: Minio, sha256: str, content_id: str) -> None:
    """Remove rows unless a dataset uses them."""
    leaving = f"{LEAVING}{content_id}"
    write_object(s3, DATASETS, leaving)
    if not _uses(s3, f"{sha256}.{content_id}."):
        s3.remove_object(bucket_name=DATASETS, object_name=rows_key(content_id))
    s3.remove_object(bucket_name=DATASETS, object_name=leaving)


def release_all(s3: Minio, content_ids: Collection[str]) -> list[str]:
    """Remove the rows of those that no dataset uses, whatever their hashes; which those are."""
    if not content_ids:
        return []
    for content_id in content_ids:
        write_object(s3, DATASETS, f"{LEAVING}{content_id}")
    used = {use.content_id for use in _uses(s3, "")}
    unused = [content_id for content_id in content_ids if content_id not in used]
    remove_objects(s3, DATASETS, map(rows_key, unused))
    remove_objects(s3, DATASETS, [f"{LEAVING}{content_id}" for content_id in content_ids])
    return unused


def _uses(s3: Minio, prefix: str) -> list[Use]:
    found = (use_of(key) for key, _ in list_keys(s3, DATASETS, USES + prefix))
    return [use for use in found if use is not None]
