"""Datasets recorded without an entry in the log, by a Hearth before there was one: taken into it as they are found.

That Hearth had an object `index/<id>.<content id>` for each; these go once all records are in the log.
"""

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from hearth_contracts.names import is_record_id
from hearth_storage.datasets import content_of, read_dataset
from hearth_storage.listing import list_keys
from hearth_storage.log import read_log, say_made
from hearth_storage.objects import DATASETS, remove_objects
from hearth_storage.register import READERS
from minio import Minio

from hearth_dataset.contents import Use, begin_use

log = logging.getLogger(__name__)

INDEX = "index/"


def adopt_all(s3: Minio) -> None:
    """Take in every record that the log does not know. May be cut off, and run twice, or by two at once."""
    logged = {fact.id for fact in read_log(s3, DATASETS)}
    records = (recorded_by(key) for key, _ in list_keys(s3, DATASETS))
    found = [each for each in records if each is not None and each not in logged]
    if found:
        log.info("taking %d datasets of an older Hearth into the log", len(found))
    adopt(s3, found)
    remove_objects(s3, DATASETS, [key for key, _ in list_keys(s3, DATASETS, INDEX)])
    log.info("datasets taken into the log: %d", len(found))


def adopt(s3: Minio, dataset_ids: Collection[str]) -> set[str]:
    """Take in some: who uses which content, and then that they exist. Gives the contents."""

    def take(dataset_id: str) -> str | None:
        dataset = read_dataset(s3, dataset_id)
        if dataset is None:  # it was deleted meanwhile
            return None
        begin_use(s3, Use(dataset.sha256, content_of(dataset), dataset.id))
        say_made(s3, DATASETS, dataset.id)
        return content_of(dataset)

    with ThreadPoolExecutor(READERS) as pool:  # raises what one of them raised
        return {content_id for content_id in pool.map(take, dataset_ids) if content_id is not None}


def recorded_by(key: str) -> str | None:
    """The dataset whose record an object is, or None."""
    dataset_id, _, name = key.partition("/")
    return dataset_id if name == "metadata.json" and is_record_id(dataset_id) else None
