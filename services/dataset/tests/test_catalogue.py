"""Which datasets there are, rows that several share, and what is swept away: over a real S3 server."""

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from itertools import count
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from hearth_contracts.datasets import Dataset
from hearth_contracts.names import new_id
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.ingest import ingest
from hearth_dataset.sweep import sweep
from hearth_storage import listing
from hearth_storage.datasets import content_of, read_dataset, rows_key, stream_rows
from hearth_storage.log import LOG, read_log
from hearth_storage.objects import DATASETS, write_object
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

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
    """All but the log and what belongs to it."""
    found = {str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)}
    return {name for name in found if not name.startswith("catalogue/")}


def logged(s3: Minio) -> list[tuple[str, bool]]:
    return sorted((fact.id, fact.is_gone) for fact in read_log(s3, DATASETS))


def uses(*datasets: Dataset) -> set[str]:
    return {f"uses/{dataset.sha256}.{content_of(dataset)}.{dataset.id}" for dataset in datasets}


def whole(s3: Minio) -> list[Dataset]:
    """What a process that begins now lists, each with its record and its rows as they were sent."""
    catalogue = Catalogue(s3)
    datasets = [catalogue.find(listed.id) for listed in catalogue.usable()]
    for dataset in datasets:
        assert content(s3, dataset) == text("once")
    return datasets


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


def dying(s3: Minio, after: int, fault: type[BaseException] = Interrupted, *, recovers: bool = False) -> Minio:
    """The same S3, whose client dies at its first change after so many: a fault that no real server gives on demand.

    One that `recovers` fails at this change alone.
    """
    changes = count()  # that threads may share

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def change(*args: object, **named: object) -> object:
            number = next(changes)
            if number == after or (number > after and not recovers):
                raise fault
            return call(*args, **named)

        return change

    mortal = object.__new__(Minio)
    mortal.__dict__.update(s3.__dict__)
    mortal.put_object = counted(s3.put_object)  # type: ignore[method-assign]
    mortal.remove_object = counted(s3.remove_object)  # type: ignore[method-assign]
    mortal.remove_objects = counted(s3.remove_objects)  # type: ignore[method-assign]
    return mortal


@pytest.mark.parametrize("after", range(11))
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
    whole(s3)
    sweep(Catalogue(s3), NOW)
    sweep(Catalogue(s3), NOW)
    listed = whole(s3)
    assert kept.id in {dataset.id for dataset in listed}
    assert objects(s3) == {rows_key(kept.id), *(dataset.s3_path for dataset in listed), *uses(*listed)}
    assert logged(s3) == sorted((dataset.id, False) for dataset in listed)


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("first", [True, False])
def test_an_upload_that_s3_fails_at_any_step_leaves_nothing_of_itself(s3: Minio, after: int, first: bool) -> None:
    kept = [] if first else [upload(Catalogue(s3))]
    before = objects(s3)
    reader = Catalogue(s3)
    reader.usable()
    failing = dying(s3, after, HTTPError, recovers=True)
    with pytest.raises(HTTPError):
        upload(Catalogue(failing))
    assert objects(s3) == before
    assert [dataset.id for dataset in reader.usable()] == [dataset.id for dataset in whole(s3)]
    assert [dataset.id for dataset in reader.usable()] == [dataset.id for dataset in kept]


def test_an_upload_whose_last_step_s3_fails_is_there_and_the_sweep_takes_the_twins_rows(s3: Minio) -> None:
    kept = upload(Catalogue(s3))
    made = upload(Catalogue(dying(s3, 4, HTTPError, recovers=True)))
    assert {dataset.id for dataset in whole(s3)} == {kept.id, made.id}
    assert rows_key(made.id) in objects(s3)  # else another step failed
    sweep(Catalogue(s3), NOW)
    assert rows_key(made.id) not in objects(s3)
    assert {dataset.id for dataset in whole(s3)} == {kept.id, made.id}


def test_the_faults_above_are_at_every_step(s3: Minio) -> None:
    upload(Catalogue(s3))
    mortal = Catalogue(dying(s3, 10))
    mortal.delete(upload(mortal))
    upload(Catalogue(dying(s3, 5)))
    with pytest.raises(Interrupted):
        upload(Catalogue(dying(s3, 4)))
    mortal = Catalogue(dying(s3, 9))
    made = upload(mortal)
    with pytest.raises(Interrupted):
        mortal.delete(made)


@pytest.mark.parametrize("after", range(4))
def test_a_deletion_that_died_is_not_listed_and_can_be_asked_for_again_as_long_as_it_can_be_read(
    s3: Minio, after: int
) -> None:
    made = upload(Catalogue(s3))
    with pytest.raises(Interrupted):
        Catalogue(dying(s3, after)).delete(made)
    catalogue = Catalogue(s3)
    assert [dataset.id for dataset in catalogue.usable()] == ([made.id] if after == 0 else [])
    if read_dataset(s3, made.id) is not None:
        catalogue.delete(catalogue.find(made.id))
    sweep(catalogue, NOW)
    sweep(catalogue, NOW)
    assert objects(s3) == set()
    assert logged(s3) == []


def test_what_is_just_being_removed_is_not_shared(catalogue: Catalogue, s3: Minio) -> None:
    first = upload(catalogue)
    s3.put_object(bucket_name=DATASETS, object_name=f"leaving/{first.id}", data=BytesIO(b""), length=0)
    second = upload(catalogue)
    assert content_of(second) == second.id
    catalogue.delete(first)
    assert content(s3, second) == text("once")


def listings_without(left_out: Callable[[str], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 whose listings lack some names, as a faulty one's do."""
    parse = listing.XML

    def shortened(body: bytes) -> Element:
        page = parse(body)
        for entry in page.findall("{*}Contents"):
            if left_out(entry.findtext("{*}Key", "")):
                page.remove(entry)
        return page

    monkeypatch.setattr(listing, "XML", shortened)


def test_a_listing_that_leaves_a_name_out_for_good_loses_nothing(s3: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, own = upload(Catalogue(s3)), upload(Catalogue(s3)), upload(Catalogue(s3), text("twice"))
    Catalogue(s3).delete(first)  # its rows stay, for the second
    kept = {second.id: text("once"), own.id: text("twice")}
    before = objects(s3)
    catalogue = Catalogue(s3)
    names = {listed.key for listed in listing.list_keys(s3, DATASETS)}
    assert len(names) >= 10
    for name in sorted(names):
        listings_without(lambda key, name=name: key == name, monkeypatch)  # type: ignore[misc]
        for _ in range(3):
            sweep(catalogue, NOW)
        monkeypatch.undo()
        sweep(catalogue, NOW)
        assert objects(s3) == before, name
        for reader in (catalogue, Catalogue(s3)):
            assert {dataset.id for dataset in reader.usable()} == kept.keys(), name
        for dataset in (second, own):
            assert content(s3, dataset) == kept[dataset.id], name


@pytest.mark.parametrize("shared", [True, False])
def test_a_listing_that_leaves_all_of_a_dataset_out_does_not_lose_it(
    s3: Minio, shared: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All but the log where another's rows are its own, else all but its rows."""
    made = upload(Catalogue(s3))
    if shared:
        first, made = made, upload(Catalogue(s3))
        Catalogue(s3).delete(first)
    before = objects(s3)
    listed = LOG if shared else rows_key(made.id)
    listings_without(lambda key: made.id in key and not key.startswith(listed), monkeypatch)
    sweep(Catalogue(s3), NOW)
    monkeypatch.undo()
    assert "S3's listing" in caplog.text
    sweep(Catalogue(s3), NOW)
    assert objects(s3) == before
    assert [dataset.id for dataset in whole(s3)] == [made.id]


def test_uploads_and_deletions_of_the_same_bytes_and_sweeps_at_once_lose_nothing(s3: Minio) -> None:
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

    def tidy() -> None:
        try:
            while not over.wait(0.05):
                sweep(Catalogue(s3))  # begins with the snapshot that the last one wrote
        except Exception as error:
            faults.append(error)

    over = threading.Event()
    threads = [threading.Thread(target=churn, args=(keep,)) for keep in (True, False, False, False)]
    sweeper = threading.Thread(target=tidy)
    for thread in (*threads, sweeper):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    sweeper.join()
    assert faults == []
    catalogue = Catalogue(s3)
    assert {dataset.id for dataset in catalogue.usable()} == {dataset.id for dataset in kept}
    for dataset in kept:
        assert content(s3, dataset) == text("once")


def test_the_sweep_leaves_young_things_alone_and_takes_old_ones(catalogue: Catalogue, s3: Minio) -> None:
    kept = upload(catalogue)
    before = objects(s3)
    orphan = new_id()
    s3.put_object(bucket_name=DATASETS, object_name=rows_key(orphan), data=BytesIO(b"x"), length=1)
    started = s3._create_multipart_upload(DATASETS, rows_key(new_id()), {})
    sweep(catalogue)
    assert objects(s3) == {*before, rows_key(orphan)}
    sweep(catalogue, NOW)
    assert objects(s3) == before
    assert content(s3, kept) == text("once")
    left = s3._list_multipart_uploads(DATASETS).uploads
    assert started not in {upload.upload_id for upload in left}


def test_the_sweep_leaves_what_was_renewed_while_it_was_at_work(
    catalogue: Catalogue, s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("leaving/old", "leaving/anew", "uploads/old/upload.json", "uploads/goes on/upload.json"):
        write_object(s3, DATASETS, key)
    time.sleep(5.1)

    def release(*_what: object) -> list[str]:
        write_object(s3, DATASETS, "leaving/anew")
        write_object(s3, DATASETS, "uploads/goes on/parts/1")
        return []

    monkeypatch.setattr("hearth_dataset.sweep.release_all", release)
    sweep(catalogue, timedelta(seconds=4), timedelta(seconds=4))
    assert objects(s3) == {"leaving/anew", "uploads/goes on/upload.json", "uploads/goes on/parts/1"}


def as_an_older_hearth_left_it(s3: Minio, *datasets: Dataset) -> None:
    """Without a log, with an entry in `index/` for each."""
    for key in {str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)}:
        if key.startswith(("catalogue/", "uses/")):
            s3.remove_object(bucket_name=DATASETS, object_name=key)
    for dataset in datasets:
        write_object(s3, DATASETS, f"index/{dataset.id}.{content_of(dataset)}")


def test_datasets_of_an_older_hearth_are_listed_at_once_shared_and_deletable(s3: Minio, catalogue: Catalogue) -> None:
    first, second, other = upload(catalogue), upload(catalogue), upload(catalogue, text("twice"))
    as_an_older_hearth_left_it(s3, first, second, other)
    new = Catalogue(s3)
    assert {dataset.id for dataset in new.usable()} == {first.id, second.id, other.id}
    assert not [key for key in objects(s3) if key.startswith("index/")]
    third = upload(new)
    assert content_of(third) == first.id
    for dataset in (first, third, other):
        new.delete(dataset)
    assert [dataset.id for dataset in whole(s3)] == [second.id]
    new.delete(second)
    assert objects(s3) == set()


@pytest.mark.parametrize("first", ["delete", "upload"])
def test_what_is_done_before_anything_was_listed_minds_the_datasets_of_an_older_hearth(s3: Minio, first: str) -> None:
    one, other = upload(Catalogue(s3)), upload(Catalogue(s3))
    as_an_older_hearth_left_it(s3, one, other)
    if first == "delete":
        Catalogue(s3).delete(one)
        assert content(s3, other) == text("once")
    else:
        assert content_of(upload(Catalogue(s3))) == one.id


@pytest.mark.parametrize("after", range(6))
def test_the_adoption_of_an_older_hearths_datasets_may_be_cut_off(s3: Minio, after: int) -> None:
    datasets = [upload(Catalogue(s3), text(words)) for words in ("once", "twice")]
    as_an_older_hearth_left_it(s3, *datasets)
    with pytest.raises(Interrupted):
        Catalogue(dying(s3, after)).usable()
    catalogue = Catalogue(s3)
    assert {dataset.id for dataset in catalogue.usable()} == {dataset.id for dataset in datasets}
    for dataset in datasets:
        catalogue.delete(dataset)
    assert objects(s3) == set()


def test_the_adoption_above_is_cut_off_at_every_step(s3: Minio) -> None:
    datasets = [upload(Catalogue(s3), text(words)) for words in ("once", "twice")]
    as_an_older_hearth_left_it(s3, *datasets)
    assert len(Catalogue(dying(s3, 6)).usable()) == 2


def test_a_record_that_the_log_does_not_know_is_taken_into_it_by_the_sweep(catalogue: Catalogue, s3: Minio) -> None:
    made = upload(catalogue)
    for fact in read_log(s3, DATASETS):
        s3.remove_object(bucket_name=DATASETS, object_name=fact.key)
    assert Catalogue(s3).usable() == []
    sweep(catalogue)
    assert [dataset.id for dataset in Catalogue(s3).usable()] == [made.id]


def test_a_list_an_upload_and_a_deletion_ask_s3_as_often_however_many_datasets_there_are(
    s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute = s3._execute

    def counted(method: str, *args: Any, **named: Any) -> Any:
        asked.append(method)
        return execute(method, *args, **named)

    monkeypatch.setattr(s3, "_execute", counted)

    def costs(datasets: int) -> list[int]:
        while len(catalogue.usable()) < datasets:
            upload(catalogue, text(new_id()))
        steps: list[Callable[[], object]] = [
            catalogue.usable,
            lambda: made.append(upload(catalogue, text(new_id()))),
            lambda: catalogue.delete(made.pop()),
        ]
        found = []
        for step in steps:
            asked.clear()
            step()
            found.append(len(asked))
        return found

    catalogue, made = Catalogue(s3), list[Dataset]()
    assert costs(2) == costs(40) == [1, 5, 7]


def test_what_a_list_shows_is_the_record_as_the_metadata_shows_it(catalogue: Catalogue) -> None:
    upload(catalogue)
    made = upload(catalogue)
    assert content_of(made) != made.id
    first, *_ = catalogue.usable()
    assert json.loads(first.line) == made.model_dump(mode="json", exclude={"content_id"})


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
