"""Checkpoints of trainings in S3, so that a run goes on wherever a worker is.

Each has a prefix of its own, in which no other attempt ever writes: what a dead attempt left half-done, or a stale one
still sends, cannot mix with what a later one stores.
"""

import logging
from collections.abc import Collection
from pathlib import Path

from hearth_contracts.adapters import AdapterFile
from hearth_contracts.base import Frozen, Timestamp
from minio import Minio

from hearth_storage.bundles import MANIFEST, BundleCorrupt, delete_bundle, fetch_files, put_files, put_manifest
from hearth_storage.objects import ARTIFACTS, read_object

log = logging.getLogger(__name__)


class CheckpointManifest(Frozen):
    """Written last: a checkpoint without it does not exist."""

    finetune_id: str
    step: int
    job_id: str
    attempt: int
    files: tuple[AdapterFile, ...]
    created_at: Timestamp

    @property
    def prefix(self) -> str:
        """Where its objects lie; sorts by step."""
        return f"{_of_run(self.finetune_id)}{self.step:09d}-{self.job_id}-{self.attempt}"


def _of_run(finetune_id: str) -> str:
    return f"checkpoints/{finetune_id}/"


def put_checkpoint_files(client: Minio, folder: Path, manifest: CheckpointManifest) -> None:
    """Put the files; the checkpoint exists once `finish_checkpoint` is done."""
    put_files(client, manifest.prefix, folder, manifest.files)


def finish_checkpoint(client: Minio, manifest: CheckpointManifest, keep: Collection[int]) -> None:
    """Make it exist, and remove those whose steps are not in `keep`, and what dead attempts left half-done."""
    put_manifest(client, manifest.prefix, manifest)
    whole, broken = _prefixes(client, manifest.finetune_id)
    steps = {f"{_of_run(manifest.finetune_id)}{step:09d}-" for step in (*keep, manifest.step)}
    for prefix in (*broken, *(p for p in whole if not p.startswith(tuple(steps)))):
        delete_bundle(client, prefix)


def fetch_newer(client: Minio, finetune_id: str, folder: Path, above: int) -> int | None:
    """If there is a checkpoint of a later step than `above`, bring all whole ones to `folder/checkpoint-<step>`.

    Returns the newest step brought, or None. One that is damaged is passed over.
    """
    manifests = [m for prefix in _prefixes(client, finetune_id)[0] if (m := _read(client, prefix)) is not None]
    if not manifests or manifests[0].step <= above:
        return None
    brought = []
    for manifest in manifests:
        try:
            fetch_files(client, manifest.prefix, manifest.files, folder / f"checkpoint-{manifest.step}")
            brought.append(manifest.step)
        except BundleCorrupt as fault:
            log.warning("checkpoint %s is passed over: %s", manifest.prefix, fault)
    return max(brought, default=None)


def _read(client: Minio, prefix: str) -> CheckpointManifest | None:
    body = read_object(client, ARTIFACTS, f"{prefix}/{MANIFEST}")
    return None if body is None else CheckpointManifest.model_validate_json(body)


def delete_checkpoints(client: Minio, finetune_id: str) -> None:
    """Remove all of a run's checkpoints."""
    for prefixes in _prefixes(client, finetune_id):
        for prefix in prefixes:
            delete_bundle(client, prefix)


def _prefixes(client: Minio, finetune_id: str) -> tuple[list[str], list[str]]:
    """The prefixes of a run's whole checkpoints and of the unfinished ones, each newest first."""
    manifests: dict[str, bool] = {}
    for entry in client.list_objects(bucket_name=ARTIFACTS, prefix=_of_run(finetune_id), recursive=True):
        prefix, _, name = str(entry.object_name).rpartition("/")
        manifests[prefix] = manifests.get(prefix, False) or name == MANIFEST
    newest_first = sorted(manifests, reverse=True)
    return [p for p in newest_first if manifests[p]], [p for p in newest_first if not manifests[p]]
