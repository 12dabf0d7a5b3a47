"""From a stream of bytes to a dataset that is whole: unpacked, checked, stored. On any error nothing is left."""

import logging
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore

from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import Invalid, TooLarge
from hearth_contracts.names import new_id
from hearth_storage.datasets import metadata_key, rows_key
from hearth_storage.objects import DATASETS
from hearth_storage.writer import writing
from hearth_web.asker import asker

from hearth_dataset import measures
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.decoding import json_lines
from hearth_dataset.multipart import FilePart
from hearth_dataset.validation import MOST_FAULTS, Counts, Validator

log = logging.getLogger(__name__)

_checking = BoundedSemaphore(2)
"""Threads that check lines at one moment. Python runs one of them in any case, while another hashes; where ten want to,
each other request waits for all ten at its every step."""


def ingest(
    catalogue: Catalogue,
    settings: DatasetSettings,
    file: Iterator[bytes],
    *,
    name: Callable[[], str],
    description: str | None,
) -> Dataset:
    """Store a file while checking it, and record it. `name` is asked once all of the file has been read.

    Raises Invalid with a fault for each bad line (the first hundred), BadRequest, TooLarge, Unavailable, and whatever
    `file` raises.
    """
    catalogue.register.prepare()  # else that is refused once all of the file has come
    dataset_id = new_id()
    counts = _store_rows(catalogue, settings, dataset_id, json_lines(file))
    dataset = catalogue.add(
        Dataset(
            id=dataset_id,
            name=name(),
            s3_path=metadata_key(dataset_id),
            description=description,
            format=counts.format,
            rows=counts.rows,
            turns=counts.turns,
            bytes=counts.bytes,
            sha256=counts.sha256,
            duplicates=counts.duplicates,
            duplicates_exact=counts.duplicates_exact,
            created_at=now(),
            owner=asker().key_id,
        )
    )
    measures.stored(dataset)
    log.info("dataset %s: %d rows, %d bytes, %s", dataset.id, dataset.rows, dataset.bytes, dataset.format)
    return dataset


def ingest_form(
    catalogue: Catalogue,
    settings: DatasetSettings,
    part: FilePart,
    pieces: Iterator[bytes],
    description: str | None = None,
    check_form: Callable[[FilePart], None] = lambda _part: None,
) -> Dataset:
    """Store the file of a multipart body.

    `check_form` looks at the body's other fields once it is read, and raises what it does not accept.
    """

    def name() -> str:
        check_form(part)
        return part.finish()

    return ingest(catalogue, settings, part.file(pieces), name=name, description=description)


def _store_rows(catalogue: Catalogue, settings: DatasetSettings, dataset_id: str, rows: Iterator[bytes]) -> Counts:
    validator = Validator(settings.dataset_max_line_bytes)
    limit = settings.dataset_max_bytes
    with writing(catalogue.s3, DATASETS, rows_key(dataset_id), "application/jsonl") as writer:
        for data in rows:
            with _checking:
                validator.feed(data)
            if validator.bytes > limit:
                raise TooLarge(f"the file is larger than {limit / 2**30:.0f} GiB; split it into several datasets")
            if validator.full:
                break
            if validator.faults:
                writer.abort()  # nothing more is stored, but the rest is still looked through
            else:
                writer.write(data)
        counts = validator.finish()
        if counts is None:
            raise _refusal(validator)
    return counts


def _refusal(validator: Validator) -> Invalid:
    found = len(validator.faults)
    words = f"at least {MOST_FAULTS} faults; the first are listed" if validator.full else f"{found} faults"
    measures.refused(validator.bytes, found)
    log.info("refused a file: %d bytes read, %d faults", validator.bytes, found)
    return Invalid(f"the file has {words}; nothing was stored", faults=validator.faults)
