"""Backup and restore: what Redis, S3 and the model store hold, as one tar file.

    python -m hearth_management.backup save FILE [--no-models]
    python -m hearth_management.backup restore FILE

The members come in this order: `hearth-backup.json` (which form and state), `redis.jsonl` (every key as Redis's DUMP
has it, all of one moment), `s3/<bucket>/<key>`, `models/...`, and last `checksums.json` with the SHA-256 of each file
before it: a file without it is no backup. Redis comes first, so whatever its records name lies in S3 already; do not
delete adapters or datasets while a backup is made. What says who is alive (nodes, replicas, RQ's workers) is left out.
"""

import base64
import hashlib
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Protocol, cast

import typer
from hearth_contracts.base import Frozen, Timestamp, now
from hearth_jobs import keys
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_jobs.state import STATE_VERSION, StateTooNew, check_state
from hearth_jobs.store import JobStore
from hearth_models.share import PREFIX as SHARED
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.log import LOG
from hearth_storage.model_store import list_models, model_folder
from hearth_storage.objects import ARTIFACTS, DATASETS, MISSING, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from hearth_storage.register import ADOPTED, SNAPSHOT
from minio import Minio
from minio.error import S3Error
from redis import Redis
from redis.exceptions import RedisError
from urllib3.exceptions import HTTPError

HEAD, RECORDS, SUMS = "hearth-backup.json", "redis.jsonl", "checksums.json"
FORM = 1
OURS = ("hearth:*", "rq:*")
ALIVE = (
    keys.NODES,
    "hearth:node:",
    "hearth:load:",
    "hearth:advice:",
    "hearth:first-tokens:",
    keys.REPLICAS,
    "hearth:replica:",
    "rq:worker",
)
BUCKETS = (DATASETS, ARTIFACTS)
LEFT_OUT = (SNAPSHOT, ADOPTED)
"""A snapshot is of a moment that a backup is not of; the next sweep writes one. What was recorded while the backup was
made may lack its word in the log: without the other, the first list after a restore takes it in."""

PASSING = (LOG, "leaving/")
"""What services remove while they run, once it has served: it may be gone before it is read."""

PIECE = 1 << 20


class BackupError(Exception):
    """It cannot be saved or restored; the message says why and what to do."""


class Head(Frozen):
    """What a backup says of itself."""

    form: int
    state_version: int
    made_at: Timestamp


class Readable(Protocol):
    """A file or an answer of S3."""

    def read(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""


class _Summed:
    """A file that is read once, and its checksum."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def read(self, size: int = PIECE) -> bytes:
        piece = self._file.read(size)
        self._sum.update(piece)
        return piece

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()


# -- save ------------------------------------------------------------------------------------------------------------


def save(redis: Redis, s3: Minio, models: Path | None, target: Path) -> int:
    """Write the backup, whole or not at all; `models` is the model store, None to leave it out.

    Returns its size in bytes. Raises BackupError, OSError, redis.RedisError, minio.error.S3Error.
    """
    if target.exists():
        raise BackupError(f"{target} is there already: name another file, or remove it")
    try:
        state = check_state(redis)
    except StateTooNew as reason:
        raise BackupError(str(reason)) from reason
    scratch = target.with_name(f".{target.name}.partial")
    try:
        scratch.touch(mode=0o600)
        with scratch.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                _write(archive, state, redis, s3, models)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(target)
    finally:
        scratch.unlink(missing_ok=True)
    return target.stat().st_size


def _write(archive: tarfile.TarFile, state: int, redis: Redis, s3: Minio, models: Path | None) -> None:
    sums: dict[str, str] = {}

    def add(name: str, size: int, file: Readable) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        summed = _Summed(file)
        archive.addfile(info, summed)
        sums[name] = summed.sha256

    head = Head(form=FORM, state_version=state, made_at=now()).model_dump_json().encode()
    records = b"".join(_records(redis))
    add(HEAD, len(head), BytesIO(head))
    add(RECORDS, len(records), BytesIO(records))
    for bucket in BUCKETS:
        if not s3.bucket_exists(bucket_name=bucket):
            continue
        for entry in s3.list_objects(bucket_name=bucket, recursive=True):
            key = str(entry.object_name)
            if key in LEFT_OUT or (models is None and bucket == ARTIFACTS and key.startswith(SHARED)):
                continue
            try:
                reply: Any = s3.get_object(bucket_name=bucket, object_name=key)
            except S3Error as error:
                if error.code in MISSING and key.startswith(PASSING):
                    continue
                raise
            try:
                add(f"s3/{bucket}/{key}", int(reply.headers["content-length"]), reply)
            finally:
                reply.close()
                reply.release_conn()
    if models is not None:
        for path in _model_files(models):
            name = f"models/{path.relative_to(models)}"
            if path.is_symlink():
                archive.add(path, name, recursive=False)
            else:
                with path.open("rb") as file:
                    add(name, path.stat().st_size, file)
    body = json.dumps(sums, indent=1).encode()
    info = tarfile.TarInfo(SUMS)
    info.size = len(body)
    archive.addfile(info, BytesIO(body))


def _records(redis: Redis) -> Iterator[bytes]:
    """One JSON line a key, all of one moment."""
    found = sorted({key for pattern in OURS for key in redis.scan_iter(pattern, count=1000)})
    names = [key for key in found if not key.decode().startswith(ALIVE)]
    pipe = redis.pipeline(transaction=True)
    for key in names:
        pipe.dump(key)
        pipe.pttl(key)
    answers = pipe.execute()
    for key, dump, ttl in zip(names, answers[::2], answers[1::2], strict=True):
        if dump is not None:  # else it has run out meanwhile
            line = {"key": key.decode(), "ttl_ms": max(ttl, 0), "dump": base64.b64encode(dump).decode()}
            yield json.dumps(line).encode() + b"\n"


def _model_files(models: Path) -> Iterator[Path]:
    """The files and links of the models that are whole."""
    for model in list_models(models):
        folder = model_folder(models, model.model_id)
        yield from sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


# -- restore ---------------------------------------------------------------------------------------------------------


def restore(redis: Redis, s3: Minio, models: Path, source: Path) -> Head:
    """Put everything back into an empty platform of which only the stores run.

    The file is checked whole before anything is written. Raises BackupError, OSError, redis.RedisError, S3Error.
    """
    head = _check(source)
    _check_empty(redis, s3, models)
    models.mkdir(parents=True, exist_ok=True)
    records: list[bytes] = []
    with _opened(source) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if member.name == RECORDS and file is not None:
                records = file.read().splitlines()
            elif member.name.startswith("s3/") and file is not None:
                _, bucket, key = member.name.split("/", 2)
                ensure_bucket(s3, bucket)
                s3.put_object(bucket_name=bucket, object_name=key, data=cast(BinaryIO, file), length=member.size)
            elif member.name.startswith("models/"):
                archive.extract(member.replace(name=member.name.removeprefix("models/")), models, filter="data")
    pipe = redis.pipeline(transaction=True)  # last: what a record names is there
    for line in records:
        record = json.loads(line)
        pipe.restore(record["key"], record["ttl_ms"], base64.b64decode(record["dump"]))
    pipe.execute()
    _free(JobStore(redis))
    return head


def _free(jobs: JobStore) -> None:
    """Give every job at work back: its holder belongs to the platform that was saved, which may still live."""
    for held in jobs.running():
        if held.owner:
            jobs.release(held.job.id, held.job.attempt, "waiting: restored from a backup")


def _check(source: Path) -> Head:
    """That the file is a backup of ours, whole, and not of a newer Hearth. Raises BackupError."""
    found: dict[str, str] = {}
    promised: dict[str, str] | None = None
    head: Head | None = None
    try:
        with _opened(source) as archive:
            for member in archive:
                _check_name(member)
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                if member.name in {HEAD, SUMS}:
                    body = file.read()
                    found[member.name] = hashlib.sha256(body).hexdigest()
                    if member.name == HEAD:
                        head = Head.model_validate_json(body)
                    else:
                        promised = json.loads(body)
                    continue
                summed = _Summed(file)
                while summed.read():
                    pass
                found[member.name] = summed.sha256
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise BackupError(f"{source} cannot be read as a backup: {error}") from error
    if head is None or promised is None:
        raise BackupError(f"{source} is no whole backup: it was cut off, or is something else")
    found.pop(SUMS)
    if wrong := sorted({*found.items()} ^ {*promised.items()}):
        raise BackupError(f"{source} is damaged at {wrong[0][0]}: take another backup")
    if head.form > FORM or head.state_version > STATE_VERSION:
        raise BackupError(f"{source} was made by a newer Hearth: restore it with that version")
    return head


def _check_name(member: tarfile.TarInfo) -> None:
    parts = Path(member.name).parts
    known = member.name in {HEAD, RECORDS, SUMS} or (
        len(parts) > 2 and (parts[0] == "models" or (parts[0] == "s3" and parts[1] in BUCKETS))
    )
    if not known or ".." in parts:
        raise BackupError(f"a backup has no file {member.name!r}")


def _check_empty(redis: Redis, s3: Minio, models: Path) -> None:
    there = "is not empty: restore into a new HEARTH_HOME (or new volumes), with only Redis and S3 running"
    if next(redis.scan_iter("hearth:*", count=1000), None) is not None:
        raise BackupError(f"Redis {there}")
    for bucket in BUCKETS:
        if s3.bucket_exists(bucket_name=bucket) and next(s3.list_objects(bucket_name=bucket, recursive=True), None):
            raise BackupError(f"the bucket {bucket} {there}")
    if list_models(models):
        raise BackupError(f"the model store {models} {there}")


def _opened(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source, mode="r:")
    except FileNotFoundError:
        raise BackupError(f"there is no {source}") from None


# -- command ---------------------------------------------------------------------------------------------------------

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Save all that the platform holds; put it back.")


@app.command(name="save")
def save_command(
    file: Annotated[Path, typer.Argument(help="the backup to write")],
    no_models: Annotated[bool, typer.Option("--no-models", help="leave base models out")] = False,
) -> None:
    """Write a backup. It holds conversations and the hashes of API keys: keep it safe."""
    with _told():
        redis, s3, models = _stores()
        size = save(redis, s3, None if no_models else models, file)
        typer.echo(f"{file}: {size / 1e6:,.1f} MB")


@app.command(name="restore")
def restore_command(file: Annotated[Path, typer.Argument(help="the backup to read")]) -> None:
    """Put a backup into an empty platform of which only Redis and S3 run."""
    with _told():
        head = restore(*_stores(), file)
        typer.echo(f"restored as of {head.made_at:%Y-%m-%d %H:%M} UTC")


def _stores() -> tuple[Redis, Minio, Path]:
    return connect_redis(RedisSettings()), connect_s3(S3Settings()), HomeSettings().models


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BackupError, OSError, RedisError, S3Error, HTTPError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    app()
