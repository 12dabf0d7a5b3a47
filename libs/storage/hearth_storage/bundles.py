"""A folder of files in S3 that is whole or absent: the files first, with their hashes, and last a manifest of them."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from hearth_contracts.adapters import AdapterFile
from minio import Minio
from pydantic import BaseModel

from hearth_storage.objects import ARTIFACTS

MANIFEST = "manifest.json"


class BundleCorrupt(Exception):
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


def put_files(client: Minio, prefix: str, folder: Path, files: Iterable[AdapterFile]) -> None:
    """Put the files under `prefix`. They are nothing yet: `put_manifest` makes them a bundle."""
    for file in files:
        client.fput_object(
            bucket_name=ARTIFACTS, object_name=f"{prefix}/{file.name}", file_path=str(folder / file.name)
        )


def put_manifest(client: Minio, prefix: str, manifest: BaseModel) -> None:
    """Make the bundle exist."""
    body = manifest.model_dump_json(indent=2).encode()
    client.put_object(
        bucket_name=ARTIFACTS,
        object_name=f"{prefix}/{MANIFEST}",
        data=BytesIO(body),
        length=len(body),
        content_type="application/json",
    )


def fetch_files(client: Minio, prefix: str, files: Iterable[AdapterFile], target: Path) -> None:
    """A verified copy at `target`, which is there whole or not at all. Raises BundleCorrupt."""
    files = tuple(files)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        for file in files:
            client.fget_object(
                bucket_name=ARTIFACTS, object_name=f"{prefix}/{file.name}", file_path=str(folder / file.name)
            )
        if fault := fault_in(folder, files):
            raise BundleCorrupt(fault)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)


def fault_in(folder: Path, files: Iterable[AdapterFile]) -> str:
    """What is wrong with a local copy, or ''."""
    for file in files:
        path = folder / file.name
        if not path.is_file():
            return f"{file.name} is missing"
        if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
            return f"{file.name} is not what its manifest says"
    return ""


def delete_bundle(client: Minio, prefix: str) -> None:
    """Remove a bundle: first its manifest, so that it stops existing at once, then its files."""
    client.remove_object(bucket_name=ARTIFACTS, object_name=f"{prefix}/{MANIFEST}")
    for entry in client.list_objects(bucket_name=ARTIFACTS, prefix=f"{prefix}/"):
        client.remove_object(bucket_name=ARTIFACTS, object_name=str(entry.object_name))
