"""Adapters in S3: stored whole or not at all, fetched and verified before anything loads them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hearth_contracts.adapters import AdapterManifest
from minio import Minio

from hearth_storage.bundles import (
    MANIFEST,
    BundleCorrupt,
    delete_bundle,
    fault_in,
    fetch_files,
    put_files,
    put_manifest,
)
from hearth_storage.locks import alone_in
from hearth_storage.objects import ARTIFACTS, read_object

READERS = 16
"""Manifests that are read at once where all are listed."""


class AdapterMissing(Exception):
    """There is no adapter with this id."""


class AdapterCorrupt(Exception):
    """What lies in S3 is not what the manifest says; the message names the file."""


def adapter_prefix(adapter_id: str) -> str:
    """Where an adapter's objects lie."""
    return f"adapters/{adapter_id}"


def store_adapter(client: Minio, folder: Path, manifest: AdapterManifest) -> None:
    """Put the files, then the manifest: until that is there the adapter does not exist. Safe to repeat."""
    prefix = adapter_prefix(manifest.adapter_id)
    put_files(client, prefix, folder, manifest.files)
    put_manifest(client, prefix, manifest)


def read_manifest(client: Minio, adapter_id: str) -> AdapterManifest | None:
    """The adapter's manifest, or None when there is no such adapter."""
    body = read_object(client, ARTIFACTS, f"{adapter_prefix(adapter_id)}/{MANIFEST}")
    return None if body is None else AdapterManifest.model_validate_json(body)


def list_manifests(client: Minio) -> list[AdapterManifest]:
    """All adapters that exist, by id."""
    names = [
        entry.object_name.split("/")[1]
        for entry in client.list_objects(bucket_name=ARTIFACTS, prefix="adapters/")
        if entry.object_name
    ]
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda name: read_manifest(client, name), sorted(names))
        return [manifest for manifest in read if manifest is not None]


def fetch_adapter(client: Minio, adapter_id: str, root: Path) -> Path:
    """A verified copy of the adapter under `root`; what is there and whole is not fetched again, nor twice at once.

    Raises AdapterMissing, AdapterCorrupt.
    """
    manifest = read_manifest(client, adapter_id)
    if manifest is None:
        raise AdapterMissing(f"there is no adapter {adapter_id!r}")
    target = root / adapter_id
    try:
        with alone_in(root):
            if not target.is_dir() or fault_in(target, manifest.files):
                fetch_files(client, adapter_prefix(adapter_id), manifest.files, target)
    except BundleCorrupt as fault:
        raise AdapterCorrupt(f"adapter {adapter_id!r}: {fault}; train it again or restore the object in S3") from fault
    return target


def delete_adapter(client: Minio, adapter_id: str) -> None:
    """Remove an adapter: it stops existing at once, then its files go."""
    delete_bundle(client, adapter_prefix(adapter_id))
