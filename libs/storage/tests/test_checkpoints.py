"""Checkpoints are whole or absent, on a real S3 server, whoever was killed while storing one."""

from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.names import new_id
from hearth_storage.bundles import describe
from hearth_storage.checkpoints import (
    CheckpointManifest,
    delete_checkpoints,
    fetch_newer,
    finish_checkpoint,
    put_checkpoint_files,
)
from hearth_storage.objects import ARTIFACTS
from minio import Minio

RUN = new_id()
JOB = new_id()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as a trainer makes it."""
    made = tmp_path / "made"
    made.mkdir()
    for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"):
        (made / name).write_bytes(name.encode() * 100)
    return made


def manifest(folder: Path, step: int, attempt: int = 1) -> CheckpointManifest:
    files = describe(folder)
    return CheckpointManifest(finetune_id=RUN, step=step, job_id=JOB, attempt=attempt, files=files, created_at=now())


def store(s3: Minio, folder: Path, step: int, keep: tuple[int, ...] = ()) -> CheckpointManifest:
    stored = manifest(folder, step)
    put_checkpoint_files(s3, folder, stored)
    finish_checkpoint(s3, stored, keep)
    return stored


def steps_in_s3(s3: Minio) -> list[int]:
    entries = s3.list_objects(bucket_name=ARTIFACTS, prefix=f"checkpoints/{RUN}/", recursive=True)
    return sorted({int(str(entry.object_name).split("/")[2].partition("-")[0]) for entry in entries})


def test_the_newest_comes_back_as_it_was(s3: Minio, folder: Path, tmp_path: Path) -> None:
    store(s3, folder, 8)
    stored = store(s3, folder, 16, keep=(8,))
    assert fetch_newer(s3, RUN, tmp_path / "there", above=0) == 16
    assert describe(tmp_path / "there" / "checkpoint-16") == stored.files
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["checkpoint-16", "checkpoint-8"]


def test_none_is_fetched_that_is_no_newer(s3: Minio, folder: Path, tmp_path: Path) -> None:
    assert fetch_newer(s3, RUN, tmp_path / "there", above=0) is None
    store(s3, folder, 8)
    assert fetch_newer(s3, RUN, tmp_path / "there", above=8) is None
    assert not (tmp_path / "there").exists()


def test_only_what_the_trainer_keeps_stays(s3: Minio, folder: Path) -> None:
    for step in (8, 16, 24):
        store(s3, folder, step, keep=(step - 8,))
    assert steps_in_s3(s3) == [16, 24]
    delete_checkpoints(s3, RUN)
    assert steps_in_s3(s3) == []


@pytest.mark.parametrize("files_put", [0, 1, 2, 3])
def test_one_whose_attempt_died_while_storing_it_does_not_exist_and_is_swept_away(
    s3: Minio, folder: Path, tmp_path: Path, files_put: int
) -> None:
    store(s3, folder, 8)
    dead = manifest(folder, 16, attempt=2)
    put_checkpoint_files(s3, folder, dead.model_copy(update={"files": dead.files[:files_put]}))
    assert fetch_newer(s3, RUN, tmp_path / "there", above=0) == 8
    store(s3, folder, 24, keep=(8,))
    assert steps_in_s3(s3) == [8, 24]


def test_a_damaged_one_is_passed_over_for_the_one_before_it(s3: Minio, folder: Path, tmp_path: Path) -> None:
    store(s3, folder, 8)
    damaged = store(s3, folder, 16, keep=(8,))
    (folder / "optimizer.pt").write_bytes(b"other")
    s3.fput_object(
        bucket_name=ARTIFACTS,
        object_name=f"{damaged.prefix}/optimizer.pt",
        file_path=str(folder / "optimizer.pt"),
    )
    assert fetch_newer(s3, RUN, tmp_path / "there", above=0) == 8
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["checkpoint-8"]


def test_runs_do_not_see_one_another(s3: Minio, folder: Path, tmp_path: Path) -> None:
    store(s3, folder, 8)
    assert fetch_newer(s3, new_id(), tmp_path / "there", above=0) is None
