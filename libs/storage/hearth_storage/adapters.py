"""Adapters in S3: stored whole or not at all, fetched and verified before anything loads them.

Which there are is a log (`log`). An adapter can be stored again under its id, by the next attempt of its training, so
an id in the log is the adapter's with a mark for each time: `<adapter id>~<8 hex digits>`. Since a record is read once,
and who reads a mark that is there before its manifest may find the one before, a second mark follows that manifest.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from uuid import uuid4

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
from hearth_storage.listing import list_keys
from hearth_storage.locks import alone_in
from hearth_storage.log import read_log, say_gone, say_made, sweep_log
from hearth_storage.objects import ARTIFACTS, object_size, read_object
from hearth_storage.register import Kind, Register
from hearth_storage.writer import STALE

log = logging.getLogger(__name__)

ADAPTERS = "adapters/"


class AdapterMissing(Exception):
    """There is no adapter with this id."""


class AdapterCorrupt(Exception):
    """What lies in S3 is not what the manifest says; the message names the file."""


def adapter_prefix(adapter_id: str) -> str:
    """Where an adapter's objects lie."""
    return f"{ADAPTERS}{adapter_id}"


def store_adapter(client: Minio, folder: Path, manifest: AdapterManifest) -> None:
    """Put the files, then the manifest: until that is there the adapter does not exist. Safe to repeat."""
    prefix = adapter_prefix(manifest.adapter_id)
    put_files(client, prefix, folder, manifest.files)
    mark = _mark(manifest.adapter_id)
    say_made(client, ARTIFACTS, mark)
    put_manifest(client, prefix, manifest)
    if _marks(client, manifest.adapter_id) != {mark}:  # who read this one may have found the manifest before
        say_made(client, ARTIFACTS, _mark(manifest.adapter_id))


def read_manifest(client: Minio, adapter_id: str) -> AdapterManifest | None:
    """The adapter's manifest, or None when there is no such adapter."""
    body = read_object(client, ARTIFACTS, f"{adapter_prefix(adapter_id)}/{MANIFEST}")
    return None if body is None else AdapterManifest.model_validate_json(body)


@dataclass(frozen=True)
class _Kept:
    line: bytes

    @cached_property
    def manifest(self) -> AdapterManifest:
        return AdapterManifest.model_validate_json(self.line)


class Adapters:
    """The adapters that there are. Safe to share between threads; one a process is enough."""

    def __init__(self, client: Minio) -> None:
        self._client = client
        kind = Kind(ARTIFACTS, ",".join(AdapterManifest.model_fields), _read_line, _Kept, _adopt_all)
        self._register: Register[_Kept] = Register(client, kind)

    def manifests(self) -> list[AdapterManifest]:
        """All that exist, by id. Raises S3Error, urllib3's HTTPError, Unavailable."""
        manifests = (kept.manifest for kept in self._register.records().values())
        newest = {each.adapter_id: each for each in sorted(manifests, key=lambda each: each.created_at)}
        return [newest[adapter_id] for adapter_id in sorted(newest)]

    def sweep(self, age: timedelta = STALE) -> None:
        """Mend what died between two steps longer than `age` ago, shorten the log, and write a snapshot."""
        self._register.prepare(patience=-1)
        mended = sweep_log(
            self._client, ARTIFACTS, _stored(self._client), partial(_is_there, self._client), age, _adapter_of
        )
        _adopt(self._client, mended.unlogged)
        for adapter_id in mended.undeleted:
            log.warning("deleting the adapter %s: whoever began that has died", adapter_id)
            delete_adapter(self._client, adapter_id)
        self._register.save(mended.existing)


def list_manifests(client: Minio) -> list[AdapterManifest]:
    """All adapters that exist, by id, for whoever asks once."""
    return Adapters(client).manifests()


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
    """Remove an adapter: it is listed no more, then it stops existing, then its files go. Safe to repeat."""
    marks = _marks(client, adapter_id)
    for mark in marks:
        say_gone(client, ARTIFACTS, mark)
    delete_bundle(client, adapter_prefix(adapter_id))
    rest = _marks(client, adapter_id) - marks  # it was stored again meanwhile, and perhaps listed
    if not _is_there(client, adapter_id):  # else once all that was over; who is about to put it says another mark then
        for mark in rest:
            say_gone(client, ARTIFACTS, mark)


def _marks(client: Minio, adapter_id: str) -> set[str]:
    """Its ids in the log, gone ones too."""
    return {fact.id for fact in read_log(client, ARTIFACTS) if _adapter_of(fact.id) == adapter_id}


def _is_there(client: Minio, adapter_id: str) -> bool:
    return object_size(client, ARTIFACTS, f"{adapter_prefix(adapter_id)}/{MANIFEST}") is not None


def _mark(adapter_id: str) -> str:
    return f"{adapter_id}~{uuid4().hex[:8]}"


def _adapter_of(mark: str) -> str:
    return mark.partition("~")[0]


def _read_line(client: Minio, mark: str) -> bytes | None:
    manifest = read_manifest(client, _adapter_of(mark))
    return None if manifest is None else manifest.model_dump_json().encode()


def _stored(client: Minio) -> set[str]:
    """The ids of all adapters that have a manifest."""
    keys = (listed.key.split("/") for listed in list_keys(client, ARTIFACTS, ADAPTERS))
    return {parts[1] for parts in keys if parts[2:] == [MANIFEST]}


def _adopt_all(client: Minio) -> None:
    """Put the adapters of a Hearth that had no log into it."""
    logged = {_adapter_of(fact.id) for fact in read_log(client, ARTIFACTS)}
    found = _stored(client) - logged
    _adopt(client, found)
    log.info("adapters taken into the log: %d", len(found))


def _adopt(client: Minio, adapter_ids: Iterable[str]) -> None:
    for adapter_id in adapter_ids:
        say_made(client, ARTIFACTS, _mark(adapter_id))
