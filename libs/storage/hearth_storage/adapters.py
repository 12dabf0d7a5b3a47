"""Adapters in S3: stored whole or not at all, fetched and verified before anything loads them."""

import hashlib
import os
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from hearth_contracts.adapters import AdapterFile, AdapterManifest
from minio import Minio

from hearth_storage.objects import ARTIFACTS, read_object

MANIFEST = "manifest.json"


class AdapterMissing(Exception):
    """There is no adapter with this id."""


class AdapterCorrupt(Exception):
    """What lies in S3 is not what the manifest says; the message names the file."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path) -> tuple[AdapterFile, ...]:
    """The files of a folder, with their sizes and hashes, by name."""
    return tuple(
        AdapterFile(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.iterdir())
        if path.is_file()
    )


def adapter_prefix(adapter_id: str) -> str:
    """Where an adapter's objects lie."""
    return f"adapters/{adapter_id}"


def _key(adapter_id: str, name: str) -> str:
    return f"{adapter_prefix(adapter_id)}/{name}"


def store_adapter(client: Minio, folder: Path, manifest: AdapterManifest) -> None:
    """Put the files, then the manifest: until that is there the adapter does not exist. Safe to repeat."""
    for file in manifest.files:
        client.fput_object(
            bucket_name=ARTIFACTS,
            object_name=_key(manifest.adapter_id, file.name),
            file_path=str(folder / file.name),
        )
    body = manifest.model_dump_json(indent=2).encode()
    client.put_object(
        bucket_name=ARTIFACTS,
        object_name=_key(manifest.adapter_id, MANIFEST),
        data=BytesIO(body),
        length=len(body),
        content_type="application/json",
    )


def read_manifest(client: Minio, adapter_id: str) -> AdapterManifest | None:
    """The adapter's manifest, or None when there is no such adapter."""
    body = read_object(client, ARTIFACTS, _key(adapter_id, MANIFEST))
    return None if body is None else AdapterManifest.model_validate_json(body)


def list_manifests(client: Minio) -> list[AdapterManifest]:
    """All adapters that exist, by id."""
    names = [
        entry.object_name.split("/")[1]
        for entry in client.list_objects(bucket_name=ARTIFACTS, prefix="adapters/")
        if entry.object_name
    ]
    return [manifest for name in sorted(names) if (manifest := read_manifest(client, name)) is not None]


def fetch_adapter(client: Minio, adapter_id: str, root: Path) -> Path:
    """A verified copy of the adapter under `root`; what is there and whole is not fetched again.

    Raises AdapterMissing, AdapterCorrupt.
    """
    manifest = read_manifest(client, adapter_id)
    if manifest is None:
        raise AdapterMissing(f"there is no adapter {adapter_id!r}")
    target = root / adapter_id
    if target.is_dir() and not _fault(target, manifest):
        return target
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{adapter_id}-") as scratch:
        folder = Path(scratch) / "adapter"
        folder.mkdir()
        for file in manifest.files:
            client.fget_object(
                bucket_name=ARTIFACTS,
                object_name=_key(adapter_id, file.name),
                file_path=str(folder / file.name),
            )
        if fault := _fault(folder, manifest):
            raise AdapterCorrupt(f"adapter {adapter_id!r}: {fault}; train it again or restore the object in S3")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)
    return target


def _fault(folder: Path, manifest: AdapterManifest) -> str:
    """What is wrong with a local copy, or ''."""
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file():
            return f"{file.name} is missing"
        if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
            return f"{file.name} is not what its manifest says"
    return ""


def delete_adapter(client: Minio, adapter_id: str) -> None:
    """Remove an adapter: first its manifest, so that it stops existing at once, then its files."""
    client.remove_object(bucket_name=ARTIFACTS, object_name=_key(adapter_id, MANIFEST))
    for entry in client.list_objects(bucket_name=ARTIFACTS, prefix=f"adapters/{adapter_id}/"):
        client.remove_object(bucket_name=ARTIFACTS, object_name=str(entry.object_name))
