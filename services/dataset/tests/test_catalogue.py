"""Which datasets there are, rows that several share, and what is swept away: over a real S3 server."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO

import pytest
from hearth_contracts.datasets import Dataset
from hearth_contracts.names import new_id
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.ingest import ingest
from hearth_dataset.sweep import sweep
from hearth_storage.datasets import content_of, rows_key, stream_rows
from hearth_storage.objects import DATASETS
from minio import Minio
from minio.error import S3Error

NOW = -timedelta(hours=1)
"""An age that makes everything old."""


def text(words: str) -> bytes:
    return json.dumps({"text": words}).encode() + b"\n"


@pytest.fixture
def catalogue(s3: Minio) -> Catalogue:
    return Catalogue(s3)


def upload(catalogue: Catalogue, body: bytes = text("once")) -> Dataset:
    return ingest(catalogue, DatasetSettings(), iter([body]), name=lambda: "x.jsonl", description=None)


def objects(s3: Minio) -> set[str]:
    return {str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)}


def content(s3: Minio, dataset: Dataset) -> bytes:
    return b"".join(stream_rows(s3, dataset))


def test_the_same_bytes_are_stored_once_and_stay_while_anybody_uses_them(catalogue: Catalogue, s3: Minio) -> None:
    first, second, other = upload(catalogue), upload(catalogue), upload(catalogue, text("twice"))
    assert content_of(first) == content_of(second) != content_of(other)
    rows = {name for name in objects(s3) if name.endswith("/data.jsonl")}
    assert rows == {rows_key(first.id), rows_key(other.id)}
    catalogue.delete(first)
    assert {dataset.id for dataset in catalogue.usable()} == {second.id, other.id}
    assert content(s3, second) == text("once")
    third = upload(catalogue)
    assert content_of(third) == first.id
    catalogue.delete(second)
    catalogue.delete(third)
    catalogue.delete(other)
    assert objects(s3) == set()


def test_two_processes_see_what_the_other_does(s3: Minio) -> None:
    one, other = Catalogue(s3), Catalogue(s3)
    made = upload(one)
    assert [dataset.id for dataset in other.usable()] == [made.id]
    one.delete(made)
    assert other.usable() == []


class Interrupted(BaseException):
    """Stands for the death of the process."""


def dying(s3: Minio, after: int) -> Minio:
    """The same S3, whose client dies at its first change after so many: a fault that no real server gives on demand."""
    changes = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def change(*args: object, **named: object) -> object:
            nonlocal changes
            changes += 1
            if changes > after:
                raise Interrupted
            return call(*args, **named)

        return change

    mortal = object.__new__(Minio)
    mortal.__dict__.update(s3.__dict__)
    mortal.put_object = counted(s3.put_object)  # type: ignore[method-assign]
    mortal.remove_object = counted(s3.remove_object)  # type: ignore[method-assign]
    return mortal


@pytest.mark.parametrize("after", range(8))
def test_a_process_that_dies_at_any_step_leaves_whole_datasets_and_the_sweep_takes_the_rest(
    s3: Minio, after: int
) -> None:
    kept = upload(Catalogue(s3))
    mortal = Catalogue(dying(s3, after))
    try:
        shared = upload(mortal)
        mortal.delete(shared)
    except Interrupted:
        pass
    catalogue = Catalogue(s3)
    for dataset in catalogue.usable():
        assert content(s3, dataset) == text("once")
    sweep(catalogue, NOW)
    listed = catalogue.usable()
    assert kept.id in {dataset.id for dataset in listed}
    entries = {f"index/{dataset.id}.{kept.id}" for dataset in listed}
    assert objects(s3) == {rows_key(kept.id), *(dataset.s3_path for dataset in listed), *entries}
    for dataset in listed:
        assert content(s3, dataset) == text("once")


def test_what_is_just_being_removed_is_not_shared(catalogue: Catalogue, s3: Minio) -> None:
    first = upload(catalogue)
    s3.put_object(bucket_name=DATASETS, object_name=f"leaving/{first.id}", data=BytesIO(b""), length=0)
    second = upload(catalogue)
    assert content_of(second) == second.id
    catalogue.delete(first)
    assert content(s3, second) == text("once")


def test_uploads_and_deletions_of_the_same_bytes_at_once_lose_nothing(s3: Minio) -> None:
    kept: list[Dataset] = []
    faults: list[Exception] = []

    def churn(keep: bool) -> None:
        catalogue = Catalogue(s3)  # as if each were a process of its own
        try:
            for _ in range(12):
                made = upload(catalogue)
                if keep:
                    kept.append(made)
                else:
                    catalogue.delete(made)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=churn, args=(keep,)) for keep in (True, False, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    catalogue = Catalogue(s3)
    assert {dataset.id for dataset in catalogue.usable()} == {dataset.id for dataset in kept}
    for dataset in kept:
        assert content(s3, dataset) == text("once")


def test_the_sweep_leaves_young_things_alone_and_takes_old_ones(catalogue: Catalogue, s3: Minio) -> None:
    kept = upload(catalogue)
    whole = objects(s3)
    orphan = new_id()
    s3.put_object(bucket_name=DATASETS, object_name=rows_key(orphan), data=BytesIO(b"x"), length=1)
    started = s3._create_multipart_upload(DATASETS, rows_key(new_id()), {})
    sweep(catalogue)
    assert objects(s3) == {*whole, rows_key(orphan)}
    sweep(catalogue, NOW)
    assert objects(s3) == whole
    assert content(s3, kept) == text("once")
    left = s3._list_multipart_uploads(DATASETS).uploads
    assert started not in {upload.upload_id for upload in left}


def test_a_dataset_from_before_there_was_an_index_is_taken_into_it(catalogue: Catalogue, s3: Minio) -> None:
    made = upload(catalogue)
    s3.remove_object(bucket_name=DATASETS, object_name=f"index/{made.id}.{made.id}")
    assert catalogue.usable() == []
    sweep(catalogue, NOW)
    assert [dataset.id for dataset in catalogue.usable()] == [made.id]


def test_s3_that_fails_in_mid_upload_leaves_nothing(s3: Minio, catalogue: Catalogue) -> None:
    big = text("x" * 100_000) * 200

    def pieces() -> object:
        yield big
        raise S3Error(None, "SlowDown", "", "", "", "")  # type: ignore[arg-type]

    with pytest.raises(S3Error):
        ingest(catalogue, DatasetSettings(), pieces(), name=lambda: "x", description=None)  # type: ignore[arg-type]
    assert objects(s3) == set()
    assert s3._list_multipart_uploads(DATASETS).uploads == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("s3-part")]
