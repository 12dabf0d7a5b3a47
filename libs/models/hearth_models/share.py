"""Models in S3, for nodes that have no way to the hub, and models that the hub does not have.

    python -m hearth_models.share MODEL_ID      put a model of this machine's store there

A model's files lie under `models/<org>--<name>/<revision>/`, and `models/<org>--<name>/<revision>.json`, written last,
says that they are whole.
"""

import argparse
import hashlib
import logging
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from hearth_contracts.models import ModelFile, StoredModel
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import describe_model, find_model, record_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, MISSING, connect, ensure_bucket, is_away, read_object
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from hearth_models.refusals import Refused

log = logging.getLogger(__name__)

PREFIX = "models/"
_PART_BYTES = 16 * 2**20
_SIGNED_FOR = timedelta(days=7)  # the longest there is: a model that takes longer needs another way
_AWAY_SECONDS = 5.0
_SHA256 = "x-amz-meta-sha256"


class Work(Protocol):
    """The work that a model is shared for, e.g. an attempt at a job."""

    def check(self) -> None:
        """Raise what it is to end with, if it is to end."""

    def wait(self, seconds: float) -> None:
        """Wait, but raise at once when it is to end."""

    def report(self, progress: float | None = None, stage: str | None = None) -> None:
        """Say how far it is."""


def shared_model(client: Minio, model_id: str, revision: str) -> StoredModel | None:
    """The model that lies whole in S3, or None. Raises S3Error, MinioException, HTTPError."""
    body = read_object(client, ARTIFACTS, f"{_folder(model_id)}/{revision}.json")
    return None if body is None else StoredModel.model_validate_json(body, extra="ignore")


def signed_urls(client: Minio, model: StoredModel) -> tuple[str, ...]:
    """Where each file of a shared model may be read, by whoever has the address, for some days."""
    return tuple(
        client.presigned_get_object(bucket_name=ARTIFACTS, object_name=_key(model, file), expires=_SIGNED_FOR)
        for file in model.files
    )


def share_model(client: Minio, store: Path, model: StoredModel, work: Work) -> None:
    """Put a model there, going on where an earlier try ended; S3 is waited for. Raises Refused, and what `work` raises.

    It need not be recorded in the store yet.
    """
    while True:
        try:
            _share(client, snapshot_path(store, model), model, work)
            return
        except (MinioException, HTTPError) as error:
            if not is_away(error):
                raise Refused(f"S3 refuses {model.model_id}: {error}; check its keys") from error
            log.warning("%s is not in S3 yet: %s", model.model_id, error)
            work.report(stage="waiting for S3")
            work.wait(_AWAY_SECONDS)


def unshare_model(client: Minio, model_id: str) -> None:
    """Remove a model from there, if it is there: first what says that it is whole. Raises S3Error, HTTPError."""
    if not client.bucket_exists(bucket_name=ARTIFACTS):
        return
    names = [
        str(entry.object_name)
        for entry in client.list_objects(bucket_name=ARTIFACTS, prefix=f"{_folder(model_id)}/", recursive=True)
    ]
    for name in sorted(names, key=lambda name: name.count("/")):
        client.remove_object(bucket_name=ARTIFACTS, object_name=name)


def _folder(model_id: str) -> str:
    return f"{PREFIX}{model_id.replace('/', '--')}"


def _key(model: StoredModel, file: ModelFile) -> str:
    return f"{_folder(model.model_id)}/{model.revision}/{file.name}"


def _share(client: Minio, snapshot: Path, model: StoredModel, work: Work) -> None:
    ensure_bucket(client, ARTIFACTS)
    there = shared_model(client, model.model_id, model.revision)
    if there is not None and there.files == model.files:
        return
    total = sum(file.bytes for file in model.files) or 1
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        work.report(progress=done / total, stage=f"to S3: {done / 2**20:.0f} of {total / 2**20:.0f} MiB")

    for file in model.files:
        if _sha256_there(client, _key(model, file)) == file.sha256:
            told(file.bytes)
        else:
            _put(client, snapshot / file.name, model, file, work, told)
    work.check()
    body = model.model_dump_json(indent=2).encode()
    name = f"{_folder(model.model_id)}/{model.revision}.json"
    client.put_object(bucket_name=ARTIFACTS, object_name=name, data=BytesIO(body), length=len(body))


def _put(
    client: Minio, path: Path, model: StoredModel, file: ModelFile, work: Work, told: Callable[[int], None]
) -> None:
    with path.open("rb") as source:
        read = _Read(source, work.check, told)
        client.put_object(
            bucket_name=ARTIFACTS,
            object_name=_key(model, file),
            data=cast(BinaryIO, read),
            length=file.bytes,
            part_size=_PART_BYTES,
            metadata={"sha256": file.sha256},
        )
    if read.digest.hexdigest() != file.sha256:
        client.remove_object(bucket_name=ARTIFACTS, object_name=_key(model, file))
        raise Refused(f"{path} is not what it was when {model.model_id} was added: delete the model and add it again")


def _sha256_there(client: Minio, key: str) -> str | None:
    try:
        return (client.stat_object(bucket_name=ARTIFACTS, object_name=key).metadata or {}).get(_SHA256)
    except S3Error as error:
        if error.code in MISSING:
            return None
        raise


class _Read:
    """A file that tells how far it is read, and stops when it is to."""

    def __init__(self, source: BinaryIO, check: Callable[[], None], told: Callable[[int], None]) -> None:
        self.digest = hashlib.sha256()
        self._source, self._check, self._told = source, check, told

    def read(self, size: int = -1) -> bytes:
        """Some bytes; raises what the work is to end with."""
        self._check()
        piece = self._source.read(size)
        self.digest.update(piece)
        self._told(len(piece))
        return piece


class _Here:
    """The work of somebody who waits at a terminal."""

    def check(self) -> None:
        """Whoever waits has Ctrl-C."""

    def wait(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def report(self, progress: float | None = None, stage: str | None = None) -> None:
        """Say it."""
        log.info("%s", stage)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="put a model of this machine's store into S3")
    parser.add_argument("model_id")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    store = HomeSettings().models
    model = find_model(store, options.model_id)
    if model is None:
        sys.exit(f"there is no model {options.model_id!r} in {store}")
    if not model.files:
        model = model.model_copy(update={"files": describe_model(snapshot_path(store, model))})
        record_model(store, model)
    try:
        share_model(connect(S3Settings()), store, model, _Here())
    except Refused as refusal:
        sys.exit(str(refusal))


if __name__ == "__main__":
    main()
