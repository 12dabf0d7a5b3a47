"""An adapter as one file: a tar that is made while it is sent, so that it takes neither memory nor disk."""

import hashlib
import tarfile
from collections.abc import Iterator

from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.errors import NotFound
from hearth_contracts.names import is_adapter_id
from hearth_storage.adapters import adapter_prefix, read_manifest
from hearth_storage.objects import ARTIFACTS
from minio import Minio

from hearth_management.services import Services

CHUNK_BYTES = 256 * 1024


def require_adapter(services: Services, adapter_id: str) -> AdapterManifest:
    """An adapter that is there. Raises NotFound."""
    manifest = read_manifest(services.s3, adapter_id) if is_adapter_id(adapter_id) else None
    if manifest is None:
        raise NotFound(f"there is no adapter {adapter_id!r}; GET /v1/models/ lists what there is")
    return manifest


def tar_bytes(manifest: AdapterManifest) -> int:
    """How long the tar will be."""
    return sum(tarfile.BLOCKSIZE + _padded(file.bytes) for file in manifest.files) + 2 * tarfile.BLOCKSIZE


def stream_tar(s3: Minio, manifest: AdapterManifest) -> Iterator[bytes]:
    """The adapter's files in a folder of its name. Ends early, short of its length, if one is not as it was stored."""
    for file in manifest.files:
        info = tarfile.TarInfo(f"{manifest.adapter_id}/{file.name}")
        info.size, info.mtime = file.bytes, int(manifest.created_at.timestamp())
        yield info.tobuf(tarfile.USTAR_FORMAT)
        digest = hashlib.sha256()
        reply = s3.get_object(bucket_name=ARTIFACTS, object_name=f"{adapter_prefix(manifest.adapter_id)}/{file.name}")
        try:
            for chunk in reply.stream(CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
        finally:
            reply.close()
            reply.release_conn()
        if digest.hexdigest() != file.sha256:
            raise OSError(f"{file.name} of adapter {manifest.adapter_id} is not what its manifest says")
        yield bytes(_padded(file.bytes) - file.bytes)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
