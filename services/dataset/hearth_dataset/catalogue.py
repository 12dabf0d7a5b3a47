"""Which datasets there are. The truth lies in S3, and any number of processes may change it at once.

`<id>/metadata.json` is a dataset's record: it exists once that is there; it never changes. What is listed is what the
log in S3 says was made and is not gone (`hearth_storage.log`); who uses which rows, `contents` tells.

| | steps |
| --- | --- |
| add | rows, who uses them, the log, the record |
| delete | the log, the record, who uses the rows, the rows if no other does |
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import NotFound
from hearth_storage.datasets import content_of, metadata_key, read_dataset, rows_key
from hearth_storage.log import say_gone, say_made
from hearth_storage.objects import DATASETS, write_object
from hearth_storage.register import Kind, Register
from hearth_web.asker import asker
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from hearth_dataset.adoption import adopt_all
from hearth_dataset.contents import Use, begin_use, end_use, find_content, release

PRIVATE = {"content_id"}
"""Would tell a client that somebody else has the same rows."""


@dataclass(frozen=True, slots=True)
class ListedDataset:
    """What is kept in memory of each dataset: its JSON as a list shows it, and what lists go by."""

    id: str
    created_at: str  # as in the JSON; texts compare as the times do
    owner: str | None
    line: bytes


class _Fields(msgspec.Struct):
    id: str
    created_at: str
    owner: str | None


_fields = msgspec.json.Decoder(_Fields)


class Catalogue:
    """The datasets in S3. Safe to share between threads."""

    def __init__(self, s3: Minio) -> None:
        self.s3 = s3
        kind = Kind(DATASETS, ",".join(Dataset.model_fields), _read_line, _keep, adopt_all)
        self.register: Register[ListedDataset] = Register(s3, kind)
        self._sorted: tuple[Mapping[str, ListedDataset], list[ListedDataset]] = ({}, [])

    def find(self, dataset_id: str) -> Dataset:
        """The dataset's record. Raises NotFound, also when it is another's than the asker's."""
        dataset = read_dataset(self.s3, dataset_id)
        if dataset is None or not asker().may_use(dataset.owner):
            raise NotFound(f"there is no dataset {dataset_id!r}; GET /v1/datasets/ lists what there is")
        return dataset

    def usable(self) -> list[ListedDataset]:
        """Every dataset that the asker may use, newest first."""
        may_use = asker().may_use
        return [dataset for dataset in self._newest_first() if may_use(dataset.owner)]

    def _newest_first(self) -> list[ListedDataset]:
        records = self.register.records()
        known, newest_first = self._sorted
        if known is not records:
            newest_first = sorted(records.values(), key=lambda dataset: dataset.created_at, reverse=True)
            self._sorted = (records, newest_first)
        return newest_first

    def add(self, dataset: Dataset) -> Dataset:
        """Record a dataset whose rows are stored under its own id; it exists once this returns.

        Where others have the same rows it uses theirs, and its own go. On any error nothing is left of it.
        """
        own = use = Use(dataset.sha256, dataset.id, dataset.id)
        logged = False
        try:
            self.register.prepare()  # or nobody knows yet who else has these rows
            if (content_id := find_content(self.s3, dataset.sha256)) is not None:
                use = own._replace(content_id=content_id)
            if not begin_use(self.s3, use):
                begin_use(self.s3, own)
                end_use(self.s3, use)
                use = own
            shared = None if use == own else use.content_id
            dataset = dataset.model_copy(update={"content_id": shared})
            logged = True
            say_made(self.s3, DATASETS, dataset.id)
            write_object(self.s3, DATASETS, metadata_key(dataset.id), dataset.model_dump_json(indent=2).encode())
        except BaseException:
            with suppress(HTTPError, S3Error):  # S3 is away, perhaps: the sweep does it then
                if logged:
                    say_gone(self.s3, DATASETS, dataset.id)
                    self.s3.remove_object(bucket_name=DATASETS, object_name=metadata_key(dataset.id))
                for each in {use, own}:
                    end_use(self.s3, each)
                release(self.s3, own.sha256, own.content_id)
            raise
        if shared is not None:
            with suppress(HTTPError, S3Error):  # it exists: the sweep takes the rows then
                self.s3.remove_object(bucket_name=DATASETS, object_name=rows_key(dataset.id))
        return dataset

    def delete(self, dataset: Dataset) -> None:
        """Remove a dataset: it is listed no more, then it stops existing; its rows go if no other uses them."""
        self.register.prepare()  # or nobody knows yet who else uses these rows
        say_gone(self.s3, DATASETS, dataset.id)
        self.s3.remove_object(bucket_name=DATASETS, object_name=metadata_key(dataset.id))
        use = Use(dataset.sha256, content_of(dataset), dataset.id)
        end_use(self.s3, use)
        release(self.s3, use.sha256, use.content_id)


def _read_line(s3: Minio, dataset_id: str) -> bytes | None:
    dataset = read_dataset(s3, dataset_id)
    return None if dataset is None else dataset.model_dump_json(exclude=PRIVATE).encode()


def _keep(line: bytes) -> ListedDataset:
    fields = _fields.decode(line)
    return ListedDataset(fields.id, fields.created_at, fields.owner, line)
