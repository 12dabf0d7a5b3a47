"""The S3 client, and the two buckets that Hearth keeps."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from hearth_storage.config import S3Settings
from hearth_storage.measured import MeasuredPool

DATASETS = "datasets"
"""`<id>/data.jsonl`, then `<id>/metadata.json`, written last; more of it in `datasets.py` beside this file."""

ARTIFACTS = "artifacts"
"""`adapters/<id>/<file>`, then `adapters/<id>/manifest.json`, written last; and checkpoints alike."""

MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchObject"})
REFUSALS = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


def is_away(error: BaseException) -> bool:
    """Whether an error says that S3 cannot be reached or has a fault of its own: later it may be well again."""
    if isinstance(error, S3Error):
        return error.code not in MISSING | REFUSALS
    return isinstance(error, MinioException | HTTPError)


def connect(settings: S3Settings) -> Minio:
    """A client with short time-outs, so that a store that is away shows at once."""
    return Minio(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key.get_secret_value() or None,
        secret_key=settings.s3_secret_key.get_secret_value() or None,
        secure=settings.s3_secure,
        region=settings.s3_region,
        http_client=MeasuredPool(
            timeout=urllib3.Timeout(connect=2, read=60),
            maxsize=16,
            retries=urllib3.Retry(total=3, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504]),
        ),
    )


def public_signer(settings: S3Settings) -> Minio | None:
    """A client that signs URLs for the address at which users reach S3, or None where they do not."""
    if settings.s3_public_endpoint is None:
        return None
    public = {"s3_endpoint": settings.s3_public_endpoint, "s3_secure": settings.s3_public_secure}
    return connect(settings.model_copy(update=public))


def ensure_bucket(client: Minio, bucket: str) -> None:
    """Make the bucket if it is not there; safe to call from several processes at once."""
    if client.bucket_exists(bucket_name=bucket):
        return
    try:
        client.make_bucket(bucket_name=bucket)
    except S3Error as error:
        if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
            raise


def object_size(client: Minio, bucket: str, key: str) -> int | None:
    """The size of an object in bytes, or None when there is none."""
    try:
        return client.stat_object(bucket_name=bucket, object_name=key).size
    except S3Error as error:
        if error.code in MISSING:
            return None
        raise


def read_part(client: Minio, bucket: str, key: str, offset: int, length: int) -> bytes:
    """A part of an object that is there."""
    reply: Any = client.get_object(bucket_name=bucket, object_name=key, offset=offset, length=length)
    try:
        return bytes(reply.read())
    finally:
        reply.close()
        reply.release_conn()


def read_object(client: Minio, bucket: str, key: str) -> bytes | None:
    """A small object whole, or None when there is none."""
    try:
        reply: Any = client.get_object(bucket_name=bucket, object_name=key)
    except S3Error as error:
        if error.code in MISSING:
            return None
        raise
    try:
        return bytes(reply.read())
    finally:
        reply.close()
        reply.release_conn()


def write_object(client: Minio, bucket: str, key: str, body: bytes = b"") -> None:
    """Put a small object."""
    client.put_object(
        bucket_name=bucket, object_name=key, data=BytesIO(body), length=len(body), content_type="application/json"
    )


def remove_objects(client: Minio, bucket: str, keys: Iterable[str]) -> None:
    """Remove objects, a thousand with each request; what is not there is as good as removed."""
    for error in client.remove_objects(bucket_name=bucket, delete_object_list=map(DeleteObject, keys)):
        if error.code not in MISSING:
            raise ServerError(f"S3 did not remove {error.name}: {error.code} {error.message}", 500)
