"""Backup and restore between real servers: all comes back, and nothing half."""

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_contracts.names import new_id
from hearth_jobs import keys
from hearth_jobs.owners import this_process
from hearth_jobs.queues import transaction
from hearth_jobs.state import STATE_VERSION, check_state
from hearth_jobs.store import JobStore
from hearth_management.backup import RECORDS, BackupError, restore, save
from hearth_management.services import Services
from hearth_storage.adapters import delete_adapter, list_manifests, read_manifest
from hearth_storage.config import S3Settings
from hearth_storage.log import LOG, read_log
from hearth_storage.model_store import list_models
from hearth_storage.objects import ARTIFACTS, DATASETS, write_object
from hearth_storage.objects import connect as connect_s3
from hearth_storage.register import ADOPTED, SNAPSHOT
from minio import Minio
from minio.error import S3Error
from redis import Redis
from urllib3.exceptions import HTTPError

from tests.support.servers import free_port, s3_server, valkey


@dataclass(frozen=True)
class Empty:
    """The stores of another platform."""

    redis: Redis
    s3: Minio
    models: Path


@pytest.fixture(scope="module")
def other_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Redis, S3Settings]]:
    with valkey(tmp_path_factory.mktemp("v2")) as redis, s3_server(tmp_path_factory.mktemp("s2")) as settings:
        yield redis, settings


@pytest.fixture
def empty(other_servers: tuple[Redis, S3Settings], tmp_path: Path) -> Empty:
    redis, settings = other_servers
    redis.flushall()
    s3 = connect_s3(settings)
    for bucket in (DATASETS, ARTIFACTS):
        if s3.bucket_exists(bucket_name=bucket):
            for entry in s3.list_objects(bucket_name=bucket, recursive=True):
                s3.remove_object(bucket_name=bucket, object_name=str(entry.object_name))
    return Empty(redis, s3, tmp_path / "other" / "models")


@pytest.fixture
def job_id(
    services: Services,
    put_model: Callable[..., None],
    put_adapter: Callable[..., None],
    put_dataset: Callable[[str], None],
) -> str:
    """A platform with something of everything in it; gives a job's id."""
    put_model("acme/base", shapes={"a.weight": (3, 3)})
    blob = next(services.home.models.glob("*/snapshots/abc/model.safetensors"))
    (blob.parents[2] / "blobs").mkdir()
    blob.rename(blob.parents[2] / "blobs" / "b1")  # as the hub's client lays it
    blob.symlink_to("../../blobs/b1")
    put_adapter("adapter-1", "acme/base")
    put_dataset(new_id())
    check_state(services.redis)
    services.redis.set("hearth:node:x", "a node that is alive here")
    services.redis.set("hearth:idempotency:1", "soon gone", px=600_000)
    pipe = transaction(services.redis)
    job = services.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT_x", subject="x")
    pipe.execute()
    services.jobs.finish(job.id, services.jobs.claim(job.id, "host:1"), JobStatus.FAILED, "no")
    return job.id


@pytest.fixture
def saved(services: Services, job_id: str, tmp_path: Path) -> Path:
    """Its backup."""
    file = tmp_path / "backup.tar"
    assert save(services.redis, services.s3, services.home.models, file) == file.stat().st_size
    assert file.stat().st_mode & 0o077 == 0
    return file


def objects(s3: Minio, bucket: str) -> dict[str | None, str | None]:
    return {entry.object_name: entry.etag for entry in s3.list_objects(bucket_name=bucket, recursive=True)}


def test_all_comes_back_but_who_was_alive(services: Services, saved: Path, job_id: str, empty: Empty) -> None:
    restore(empty.redis, empty.s3, empty.models, saved)
    for key in (keys.job(job_id), keys.JOBS, keys.STATE_VERSION):
        assert empty.redis.dump(key) == services.redis.dump(key) is not None
    assert 0 < empty.redis.pttl("hearth:idempotency:1") <= 600_000
    assert not empty.redis.exists("hearth:node:x")
    for bucket in (DATASETS, ARTIFACTS):
        there = {key: etag for key, etag in objects(services.s3, bucket).items() if key != ADOPTED}
        assert objects(empty.s3, bucket) == there != {}
    assert list_manifests(empty.s3) == [read_manifest(services.s3, "adapter-1")]
    assert read_manifest(empty.s3, "adapter-1") == read_manifest(services.s3, "adapter-1") is not None
    assert list_models(empty.models) == list_models(services.home.models) != []
    weights = next(empty.models.glob("*/snapshots/abc/model.safetensors"))
    assert weights.is_symlink()
    assert weights.read_bytes() == next(services.home.models.glob("*/blobs/b1")).read_bytes()


def test_a_job_at_work_waits_for_another_worker_though_the_one_that_had_it_lives(
    services: Services, job_id: str, tmp_path: Path, empty: Empty
) -> None:
    pipe = transaction(services.redis)
    job = services.jobs.create(pipe, kind=JobKind.DEPLOY, name="DEPLOY_x", subject="x")
    pipe.execute()
    services.jobs.claim(job.id, str(this_process()))
    file = tmp_path / "busy.tar"
    save(services.redis, services.s3, None, file)
    restore(empty.redis, empty.s3, empty.models, file)
    restored = JobStore(empty.redis)
    assert restored.get(job.id).status is JobStatus.RUNNING
    assert restored.claim(job.id, "host:2") == 2
    assert restored.get(job_id).status is JobStatus.FAILED


def test_without_models_the_rest_comes_back(services: Services, job_id: str, tmp_path: Path, empty: Empty) -> None:
    shared = {"bucket_name": ARTIFACTS, "object_name": "models/acme--llm/abc.json"}
    services.s3.put_object(**shared, data=io.BytesIO(b"{}"), length=2)
    file = tmp_path / "small.tar"
    save(services.redis, services.s3, None, file)
    restore(empty.redis, empty.s3, empty.models, file)
    assert empty.redis.exists(keys.job(job_id))
    assert list_models(empty.models) == []
    assert objects(services.s3, ARTIFACTS).keys() - objects(empty.s3, ARTIFACTS).keys() == {shared["object_name"]}


def test_the_snapshot_of_what_exists_is_left_out_for_it_is_of_another_moment(
    services: Services, job_id: str, tmp_path: Path, empty: Empty
) -> None:
    services.adapters.sweep()
    assert SNAPSHOT in objects(services.s3, ARTIFACTS)
    (adapter,) = services.adapters.manifests()
    save(services.redis, services.s3, None, tmp_path / "backup.tar")
    restore(empty.redis, empty.s3, empty.models, tmp_path / "backup.tar")
    assert objects(services.s3, ARTIFACTS).keys() - objects(empty.s3, ARTIFACTS).keys() == {SNAPSHOT, ADOPTED}
    assert list_manifests(empty.s3) == [adapter]


def test_what_the_sweep_removes_while_a_backup_is_made_does_not_end_it(
    services: Services, job_id: str, tmp_path: Path, empty: Empty, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = [f"{LOG}20260101T000000000000Z.x", f"{LOG}20260101T000000000001Z.x.gone", "leaving/x"]
    for key in passing:
        write_object(services.s3, DATASETS, key)
    get = services.s3.get_object

    def sweeping(**named: str) -> object:
        if named["object_name"] in passing:
            services.s3.remove_object(**named)
        return get(**named)

    monkeypatch.setattr(services.s3, "get_object", sweeping)
    save(services.redis, services.s3, None, tmp_path / "backup.tar")
    restore(empty.redis, empty.s3, empty.models, tmp_path / "backup.tar")
    assert objects(empty.s3, DATASETS) == objects(services.s3, DATASETS) != {}
    for key in passing:
        assert key not in objects(empty.s3, DATASETS)


def test_a_file_that_is_lost_while_a_backup_is_made_ends_it(
    services: Services, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = services.s3.get_object

    def losing(**named: str) -> object:
        if named["object_name"].endswith("metadata.json"):
            services.s3.remove_object(**named)
        return get(**named)

    monkeypatch.setattr(services.s3, "get_object", losing)
    with pytest.raises(S3Error, match="NoSuchKey"):
        save(services.redis, services.s3, None, tmp_path / "backup.tar")
    assert not list(tmp_path.glob("*backup*"))


def test_what_was_recorded_while_a_backup_was_made_is_listed_though_its_word_in_the_log_came_too_late(
    services: Services, put_adapter: Callable[..., None], job_id: str, tmp_path: Path, empty: Empty
) -> None:
    """And what is gone stays so: the log of a backup is taken as it is, and what it lacks is added."""
    put_adapter("adapter-2", "acme/base")
    delete_adapter(services.s3, "adapter-2")
    assert [adapter.adapter_id for adapter in services.adapters.manifests()] == ["adapter-1"]
    for fact in [*read_log(services.s3, ARTIFACTS)]:
        if fact.id.startswith("adapter-1"):
            services.s3.remove_object(bucket_name=ARTIFACTS, object_name=fact.key)
    save(services.redis, services.s3, None, tmp_path / "backup.tar")
    restore(empty.redis, empty.s3, empty.models, tmp_path / "backup.tar")
    for _ in range(2):
        assert [adapter.adapter_id for adapter in list_manifests(empty.s3)] == ["adapter-1"]


def test_a_file_that_was_cut_off_or_changed_restores_nothing(saved: Path, empty: Empty, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    place = whole.index(b'"dump": "') + 12
    for name, body in {
        "cut": whole[: len(whole) // 2],
        "changed": whole[:place] + b"!" + whole[place + 1 :],
        "else": b"not a tar file at all" * 100,
        "nothing": b"",
    }.items():
        file = tmp_path / name
        file.write_bytes(body)
        with pytest.raises(BackupError, match=str(file)):
            restore(empty.redis, empty.s3, empty.models, file)
    assert empty.redis.dbsize() == 0
    assert not empty.models.exists()


@pytest.mark.parametrize("name", ["../../etc/evil", "s3/other/x", "models/../../evil", "evil"])
def test_a_file_that_names_what_no_backup_has_restores_nothing(name: str, empty: Empty, tmp_path: Path) -> None:
    file = tmp_path / "forged.tar"
    with tarfile.open(file, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(BackupError, match="has no file"):
        restore(empty.redis, empty.s3, empty.models, file)


def test_a_platform_that_holds_something_is_left_as_it_is(services: Services, saved: Path, empty: Empty) -> None:
    with pytest.raises(BackupError, match="Redis is not empty"):
        restore(services.redis, empty.s3, empty.models, saved)
    with pytest.raises(BackupError, match="bucket datasets is not empty"):
        restore(empty.redis, services.s3, empty.models, saved)
    with pytest.raises(BackupError, match=r"model store .* is not empty"):
        restore(empty.redis, empty.s3, services.home.models, saved)


def test_a_file_that_is_there_is_not_written_over(services: Services, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(BackupError, match="there already"):
        save(services.redis, services.s3, None, saved)
    assert saved.read_bytes() == before


def test_a_backup_that_fails_leaves_no_file(services: Services, job_id: str, tmp_path: Path) -> None:
    away = S3Settings(s3_endpoint=f"127.0.0.1:{free_port()}")
    with pytest.raises(HTTPError):
        save(services.redis, connect_s3(away), services.home.models, tmp_path / "backup.tar")
    assert not list(tmp_path.glob("*backup*"))


def test_the_records_are_all_of_one_form(saved: Path) -> None:
    with tarfile.open(saved) as archive:
        assert archive.getnames()[1] == RECORDS
        assert archive.getnames()[-1] == "checksums.json"


def test_the_data_of_a_newer_hearth_is_not_saved_as_if_it_were_ours(services: Services, tmp_path: Path) -> None:
    services.redis.set(keys.STATE_VERSION, STATE_VERSION + 1)
    with pytest.raises(BackupError, match="install the version that wrote it"):
        save(services.redis, services.s3, None, tmp_path / "backup.tar")
    assert not list(tmp_path.glob("*backup*"))
