"""Models in S3: put there whole, on a real S3 server."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.models import StoredModel
from hearth_models.refusals import Refused
from hearth_models.share import share_model, shared_model, unshare_model
from hearth_storage.config import S3Settings
from hearth_storage.model_store import describe_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, connect
from minio import Minio

from tests.support.servers import free_port

WEIGHTS = "model.safetensors"
SIZE = 40 * 2**20  # three parts


class Ended(Exception):
    """Somebody ended the work."""


@dataclass
class Job:
    """Work that is ended once it is so far, or has waited."""

    ends_at: float = 2.0
    stages: list[str] = field(default_factory=list)
    progress: float = 0.0

    def check(self) -> None:
        if self.progress >= self.ends_at:
            raise Ended

    def wait(self, seconds: float) -> None:
        raise Ended

    def report(self, progress: float | None = None, stage: str | None = None) -> None:
        self.progress = progress or self.progress
        self.stages.append(stage or "")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def model(store: Path) -> StoredModel:
    model = StoredModel(model_id="acme/tiny", revision="one", size_bytes=SIZE, license=None, created_at=now())
    folder = snapshot_path(store, model)
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / WEIGHTS).write_bytes(os.urandom(SIZE))
    return model.model_copy(update={"files": describe_model(folder)})


def names(s3: Minio) -> list[str]:
    found = s3.list_objects(bucket_name=ARTIFACTS, recursive=True)
    return sorted(str(entry.object_name) for entry in found)


def test_a_shared_model_is_there_whole_and_goes_whole(s3: Minio, store: Path, model: StoredModel) -> None:
    job = Job()
    share_model(s3, store, model, job)
    assert shared_model(s3, model.model_id, "one") == model
    assert names(s3) == [
        "models/acme--tiny/one.json", "models/acme--tiny/one/1_Pooling/config.json", f"models/acme--tiny/one/{WEIGHTS}"
    ]  # fmt: skip
    assert job.stages[-1] == "to S3: 40 of 40 MiB"
    unshare_model(s3, model.model_id)
    assert names(s3) == []


def test_one_that_was_interrupted_is_not_there_and_the_next_try_sends_only_what_is_missing(
    s3: Minio, store: Path, model: StoredModel
) -> None:
    with pytest.raises(Ended):
        share_model(s3, store, model, Job(ends_at=0.3))
    assert shared_model(s3, model.model_id, "one") is None
    there = "models/acme--tiny/one/1_Pooling/config.json"
    assert names(s3) == [there]
    before = s3.stat_object(bucket_name=ARTIFACTS, object_name=there).last_modified
    share_model(s3, store, model, Job())
    assert shared_model(s3, model.model_id, "one") == model
    assert s3.stat_object(bucket_name=ARTIFACTS, object_name=there).last_modified == before


def test_a_file_that_is_not_what_was_added_is_not_shared(s3: Minio, store: Path, model: StoredModel) -> None:
    (snapshot_path(store, model) / WEIGHTS).write_bytes(os.urandom(SIZE))
    with pytest.raises(Refused, match="not what it was"):
        share_model(s3, store, model, Job())
    assert shared_model(s3, model.model_id, "one") is None
    assert f"models/acme--tiny/one/{WEIGHTS}" not in names(s3)


def test_an_s3_that_is_away_is_waited_for(store: Path, model: StoredModel) -> None:
    job = Job()
    with pytest.raises(Ended):
        share_model(connect(S3Settings(s3_endpoint=f"127.0.0.1:{free_port()}")), store, model, job)
    assert job.stages == ["waiting for S3"]
