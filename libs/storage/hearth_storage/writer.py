"""Objects of unknown length, written as their bytes come: whole in S3 or not there at all.

The SDK's own `put_object` does this too, but when its source fails it leaves its threads behind, and it tells of a
part that S3 refused only once the whole stream has been read. It has no public calls for the parts of an upload, so
those with an underscore are used, here alone.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from threading import BoundedSemaphore

from minio import Minio
from minio.datatypes import Part
from minio.error import S3Error
from urllib3.exceptions import HTTPError

PART_BYTES = 5 * 2**20  # the least that S3 takes; it takes 10,000 of them, which is 48 GiB
PARTS_IN_FLIGHT = 6
STALE = timedelta(hours=24)
"""What is left unfinished for so long has nobody who works on it."""

_sending_at_all = BoundedSemaphore(8)
"""Parts that all writers of this process have in flight: what bounds its memory, and what S3 has to do at once."""


class ObjectWriter:
    """Collects bytes into parts and sends them side by side; at most eight parts are in memory."""

    def __init__(self, client: Minio, bucket: str, key: str, content_type: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._type = content_type
        self._ready: list[bytes] = []
        self._ready_bytes = 0
        self._upload_id = ""
        self._pool: ThreadPoolExecutor | None = None
        self._sending: deque[Future[str]] = deque()
        self._etags: list[str] = []

    def write(self, data: bytes) -> None:
        """Take some bytes. Waits while S3 is behind; raises what the sending of an earlier part raised."""
        while self._ready_bytes + len(data) > PART_BYTES:
            room = PART_BYTES - self._ready_bytes
            part = b"".join([*self._ready, data[:room]])
            self._ready, self._ready_bytes, data = [], 0, data[room:]
            self._send(part)
        self._ready.append(data)
        self._ready_bytes += len(data)

    def close(self) -> None:
        """Send the rest; now the object is there."""
        rest = b"".join(self._ready)
        if self._pool is None:
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=self._key,
                data=BytesIO(rest),
                length=len(rest),
                content_type=self._type,
            )
            return
        self._send(rest)
        while self._sending:
            self._etags.append(self._sending.popleft().result())
        self._pool.shutdown()
        parts = [Part(number, etag) for number, etag in enumerate(self._etags, start=1)]
        self._client._complete_multipart_upload(self._bucket, self._key, self._upload_id, parts)

    def abort(self) -> None:
        """Give up: no part of it stays. Once is enough, twice does no harm."""
        self._ready.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            with suppress(HTTPError, S3Error):  # S3 is away, perhaps; what stays is stale one day
                self._client._abort_multipart_upload(self._bucket, self._key, self._upload_id)

    def _send(self, part: bytes) -> None:
        if self._pool is None:
            headers: dict[str, str | list[str] | tuple[str]] = {"Content-Type": self._type}
            self._upload_id = self._client._create_multipart_upload(self._bucket, self._key, headers)
            self._pool = ThreadPoolExecutor(PARTS_IN_FLIGHT, "s3-part")
        if len(self._sending) == PARTS_IN_FLIGHT:
            self._etags.append(self._sending.popleft().result())
        number = len(self._etags) + len(self._sending) + 1
        _sending_at_all.acquire()
        sent = self._pool.submit(
            self._client._upload_part, self._bucket, self._key, part, None, self._upload_id, number
        )
        sent.add_done_callback(lambda _: _sending_at_all.release())
        self._sending.append(sent)


@contextmanager
def writing(client: Minio, bucket: str, key: str, content_type: str) -> Iterator[ObjectWriter]:
    """A writer whose object is there when the block ends well, and not at all when it raises."""
    writer = ObjectWriter(client, bucket, key, content_type)
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.abort()
        raise


def abort_stale_uploads(client: Minio, bucket: str, age: timedelta) -> int:
    """Drop the parts of uploads that began longer than `age` ago: their writers died. How many there were."""
    found = client._list_multipart_uploads(bucket).uploads
    stale = [each for each in found if each.initiated_time and datetime.now(UTC) - each.initiated_time > age]
    for each in stale:
        client._abort_multipart_upload(bucket, str(each.object_name), str(each.upload_id))
    return len(stale)
