"""Uploads in parts, for files too big for one request: each part is an object, whole or absent, sent in any order and
as often as it takes. What has arrived is what S3 lists, whichever way it came: through this service or, by a presigned
URL, straight to S3.

`uploads/<id>/upload.json` says what it is to become, `uploads/<id>/parts/<number>` are the parts, and
`uploads/<id>/done` names the dataset that it became.
"""

from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from threading import Lock
from typing import Any

from hearth_contracts.base import Frozen, Timestamp, now
from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import BadRequest, Conflict, NotFound, TooLarge
from hearth_contracts.names import RecordId, is_record_id, new_id
from hearth_contracts.uploads import NewUpload, PartUrl, Upload, UploadPart
from hearth_storage.objects import DATASETS, read_object
from hearth_storage.writer import writing
from hearth_web.asker import asker
from minio import Minio

from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.ingest import ingest
from hearth_dataset.multipart import safe_name

UPLOADS = "uploads/"
KEPT = timedelta(days=7)
"""An upload to which nothing was added for so long is given up."""

MOST_PARTS = 10_000
URL_LIFE = timedelta(hours=12)
CHUNK_BYTES = 2**20


class _Record(Frozen):
    id: RecordId
    name: str
    description: str | None
    created_at: Timestamp
    owner: str | None


class Uploads:
    """The uploads in S3. Safe to share between threads."""

    def __init__(self, catalogue: Catalogue, settings: DatasetSettings, public: Minio | None) -> None:
        self._catalogue = catalogue
        self._s3 = catalogue.s3
        self._settings = settings
        self._public = public  # signs for the address at which clients reach S3
        self._lock = Lock()
        self._completing: set[str] = set()

    def begin(self, asked: NewUpload) -> Upload:
        """Make one, without parts."""
        record = _Record(
            id=new_id(),
            name=safe_name(asked.name),
            description=asked.description,
            created_at=now(),
            owner=asker().key_id,
        )
        self._put(_key(record.id, "upload.json"), record.model_dump_json().encode())
        return _shown(record, (), None)

    def find(self, upload_id: str) -> Upload:
        """How far it is. Raises NotFound."""
        record = self._record(upload_id)
        done = read_object(self._s3, DATASETS, _key(upload_id, "done"))
        return _shown(record, self._parts(upload_id), done.decode() if done else None)

    def put_part(self, upload_id: str, number: int, pieces: Iterator[bytes]) -> UploadPart:
        """Store a part, in place of one with the same number. Raises NotFound, Conflict, TooLarge, BadRequest."""
        self._open(upload_id)
        limit = self._settings.dataset_max_part_bytes
        size = 0
        with writing(self._s3, DATASETS, _part_key(upload_id, number), "application/octet-stream") as writer:
            for piece in pieces:
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"a part holds at most {limit} bytes; cut the file into more parts")
                writer.write(piece)
            if not size:
                raise BadRequest("the part is empty; send its bytes as the request's body")
        return UploadPart(number=number, bytes=size)

    def part_url(self, upload_id: str, number: int) -> PartUrl:
        """Where to put a part without passing through this service. Raises NotFound, Conflict."""
        self._open(upload_id)
        if self._public is None:
            raise Conflict("clients cannot reach S3 here (HEARTH_S3_PUBLIC_ENDPOINT is not set); PUT the part instead")
        expires_at = now() + URL_LIFE
        url = self._public.presigned_put_object(
            bucket_name=DATASETS, object_name=_part_key(upload_id, number), expires=URL_LIFE
        )
        return PartUrl(url=url, expires_at=expires_at)

    def complete(self, upload_id: str, count: int) -> Dataset:
        """Make a dataset of parts 1 to `count`. Asked again, it answers with the same one.

        Raises NotFound, Conflict while parts are missing, and what `ingest` raises; the parts then stay, so that one
        can be replaced.
        """
        with self._lock:
            if upload_id in self._completing:
                raise Conflict("this upload is being completed; look at it again in a while")
            self._completing.add(upload_id)
        try:
            return self._complete(upload_id, count)
        finally:
            with self._lock:
                self._completing.discard(upload_id)

    def _complete(self, upload_id: str, count: int) -> Dataset:
        upload = self.find(upload_id)
        if upload.dataset_id is not None:
            return self._catalogue.find(upload.dataset_id)
        arrived = [part.number for part in upload.parts]
        if arrived != list(range(1, count + 1)):
            missing = sorted(set(range(1, count + 1)) - set(arrived))
            over = [number for number in arrived if number > count]
            raise Conflict(
                f"of {count} parts {_some(missing)} are missing, and {_some(over)} are there beyond the last"
            )
        dataset = ingest(
            self._catalogue,
            self._settings,
            self._read(upload_id, count),
            name=lambda: upload.name,
            description=upload.description,
        )
        self._put(_key(upload_id, "done"), dataset.id.encode())
        for number in arrived:
            self._s3.remove_object(bucket_name=DATASETS, object_name=_part_key(upload_id, number))
        return dataset

    def give_up(self, upload_id: str) -> None:
        """Remove it, parts and all; a dataset that it became stays. Raises NotFound."""
        self._record(upload_id)
        remove_upload(self._s3, upload_id)

    def _record(self, upload_id: str) -> _Record:
        body = read_object(self._s3, DATASETS, _key(upload_id, "upload.json")) if is_record_id(upload_id) else None
        record = None if body is None else _Record.model_validate_json(body)
        if record is None or not asker().may_use(record.owner):
            raise NotFound(f"there is no upload {upload_id!r}; POST /v1/datasets/uploads/ begins one")
        return record

    def _open(self, upload_id: str) -> None:
        self._record(upload_id)
        if (done := read_object(self._s3, DATASETS, _key(upload_id, "done"))) is not None:
            raise Conflict(f"this upload is complete: it became dataset {done.decode()}")

    def _parts(self, upload_id: str) -> tuple[UploadPart, ...]:
        prefix = _key(upload_id, "parts/")
        listed = self._s3.list_objects(bucket_name=DATASETS, prefix=prefix)
        sizes = {str(entry.object_name).removeprefix(prefix): entry.size or 0 for entry in listed}
        # a server may list an emptied folder as if it were in itself
        return tuple(UploadPart(number=int(name), bytes=size) for name, size in sizes.items() if name.isdigit())

    def _read(self, upload_id: str, count: int) -> Iterator[bytes]:
        for number in range(1, count + 1):
            reply: Any = self._s3.get_object(bucket_name=DATASETS, object_name=_part_key(upload_id, number))
            try:
                yield from reply.stream(CHUNK_BYTES)
            finally:
                reply.close()
                reply.release_conn()

    def _put(self, key: str, body: bytes) -> None:
        self._s3.put_object(bucket_name=DATASETS, object_name=key, data=BytesIO(body), length=len(body))


def remove_upload(s3: Minio, upload_id: str) -> None:
    """Remove all of an upload, its record first."""
    s3.remove_object(bucket_name=DATASETS, object_name=_key(upload_id, "upload.json"))
    for entry in s3.list_objects(bucket_name=DATASETS, prefix=_key(upload_id, ""), recursive=True):
        s3.remove_object(bucket_name=DATASETS, object_name=str(entry.object_name))


def _shown(record: _Record, parts: tuple[UploadPart, ...], dataset_id: str | None) -> Upload:
    return Upload(
        id=record.id,
        name=record.name,
        description=record.description,
        created_at=record.created_at,
        parts=parts,
        dataset_id=dataset_id,
    )


def _some(numbers: list[int]) -> str:
    if not numbers:
        return "none"
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


def _key(upload_id: str, name: str) -> str:
    return f"{UPLOADS}{upload_id}/{name}"


def _part_key(upload_id: str, number: int) -> str:
    return _key(upload_id, f"parts/{number:05d}")
