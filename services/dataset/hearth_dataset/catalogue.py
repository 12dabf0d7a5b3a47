"""Which datasets there are, and which of them share their rows. The truth lies in S3, and any number of processes may
change it at once.

| object | says |
| --- | --- |
| `<id>/metadata.json` | the dataset exists; never changes |
| `<content id>/data.jsonl` | its rows; the first dataset of these bytes gave them its id |
| `index/<id>.<content id>` | this dataset uses this content; there before the record, gone after it |
| `leaving/<content id>` | somebody is about to remove this content |

All names in `index/` are read in a few requests, however many datasets there are; a record is read once, since it never
changes. Content goes with its last user. That no dataset begins to use what is just being removed is settled without
a lock: who uses first writes its index entry and then looks whether the content is leaving; who removes first says so
and then looks for entries. Whichever came second sees the other.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from threading import Lock

from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import NotFound
from hearth_storage.datasets import content_of, metadata_key, read_dataset, rows_key
from hearth_storage.objects import DATASETS, MISSING
from hearth_web.asker import asker
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

INDEX = "index/"
LEAVING = "leaving/"
READERS = 16


class Catalogue:
    """The datasets in S3. Safe to share between threads."""

    def __init__(self, s3: Minio) -> None:
        self.s3 = s3
        self._known: dict[str, Dataset] = {}
        self._lock = Lock()

    def find(self, dataset_id: str) -> Dataset:
        """The dataset's record. Raises NotFound, also when it is another's than the asker's."""
        dataset = read_dataset(self.s3, dataset_id)
        if dataset is None or not asker().may_use(dataset.owner):
            raise NotFound(f"there is no dataset {dataset_id!r}; GET /v1/datasets/ lists what there is")
        return dataset

    def usable(self) -> list[Dataset]:
        """Every dataset that the asker may use, newest first."""
        usable = [dataset for dataset in self.everyones() if asker().may_use(dataset.owner)]
        return sorted(usable, key=lambda dataset: dataset.created_at, reverse=True)

    def everyones(self) -> Collection[Dataset]:
        """All datasets, whoever asks."""
        ids = {dataset_id for dataset_id, _ in self.entries()}
        with self._lock:
            known = {dataset_id: self._known[dataset_id] for dataset_id in ids & self._known.keys()}
        unknown = ids - known.keys()
        if unknown:
            with ThreadPoolExecutor(READERS) as pool:
                read = pool.map(lambda each: read_dataset(self.s3, each), unknown)
                known |= {dataset.id: dataset for dataset in read if dataset is not None}
        with self._lock:
            self._known = known
        return known.values()

    def add(self, dataset: Dataset) -> Dataset:
        """Record a dataset whose rows are stored under its own id; it exists once this returns.

        Where others have the same rows it uses theirs, and its own go. On any error nothing is left of it.
        """
        twin = dataset.id
        try:
            twin = next((content_of(each) for each in self.everyones() if each.sha256 == dataset.sha256), dataset.id)
            self._use(dataset.id, twin)
            if twin != dataset.id and not self._stays(twin):
                self._use(dataset.id, dataset.id)
                self._remove(_entry(dataset.id, twin))
                twin = dataset.id
            dataset = dataset.model_copy(update={"content_id": None if twin == dataset.id else twin})
            self._put(metadata_key(dataset.id), dataset.model_dump_json(indent=2).encode())
        except BaseException:
            with suppress(HTTPError, S3Error):  # S3 is away, perhaps: the sweep does it then
                self._forget(dataset.id, twin)
                self.release(dataset.id)
            raise
        if twin != dataset.id:
            self._remove(rows_key(dataset.id))
        return dataset

    def adopt(self, dataset: Dataset) -> None:
        """Put a dataset into the index that was recorded before there was one."""
        self._use(dataset.id, content_of(dataset))

    def delete(self, dataset: Dataset) -> None:
        """Remove a dataset: first its record, so that it stops existing at once; its rows if no other uses them."""
        self._forget(dataset.id, content_of(dataset))
        self.release(content_of(dataset))

    def _forget(self, dataset_id: str, content_id: str) -> None:
        self._remove(metadata_key(dataset_id))
        with self._lock:
            self._known.pop(dataset_id, None)
        self._remove(_entry(dataset_id, content_id))

    def release(self, content_id: str) -> None:
        """Remove rows unless a dataset uses them."""
        self._put(_leaving(content_id), b"")
        if content_id not in {used for _, used in self.entries()}:
            self._remove(rows_key(content_id))
        self._remove(_leaving(content_id))

    def entries(self) -> list[tuple[str, str]]:
        """Each dataset with the content that it uses; also those whose record is about to be written or just gone."""
        listed = self.s3.list_objects(bucket_name=DATASETS, prefix=INDEX)
        names = (str(entry.object_name).removeprefix(INDEX) for entry in listed)
        # a server may list an emptied folder as if it were in itself
        return [(dataset_id, content_id) for dataset_id, dot, content_id in (n.partition(".") for n in names) if dot]

    def _use(self, dataset_id: str, content_id: str) -> None:
        self._put(_entry(dataset_id, content_id), b"")

    def _stays(self, content_id: str) -> bool:
        return not self._exists(_leaving(content_id)) and self._exists(rows_key(content_id))

    def _exists(self, key: str) -> bool:
        try:
            self.s3.stat_object(bucket_name=DATASETS, object_name=key)
        except S3Error as error:
            if error.code in MISSING:
                return False
            raise
        return True

    def _put(self, key: str, body: bytes) -> None:
        self.s3.put_object(
            bucket_name=DATASETS, object_name=key, data=BytesIO(body), length=len(body), content_type="application/json"
        )

    def _remove(self, key: str) -> None:
        self.s3.remove_object(bucket_name=DATASETS, object_name=key)


def _entry(dataset_id: str, content_id: str) -> str:
    return f"{INDEX}{dataset_id}.{content_id}"


def _leaving(content_id: str) -> str:
    return f"{LEAVING}{content_id}"
