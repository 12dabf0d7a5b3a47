"""What nodes fetched, and what of it goes for another to have room."""

import os
from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.models import ModelFile, StoredModel
from hearth_fit.machine import Room
from hearth_models import fetched
from hearth_models.fetched import is_fetched, make_room, mark_fetched, note_use
from hearth_models.refusals import Refused
from hearth_models.room import SPARE_BYTES
from hearth_storage.model_store import find_model, model_folder, model_ids, record_model, snapshot_path

MIB = 2**20


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three models of 10 MiB that nodes fetched, `a` first, and one that somebody put there."""
    for age, name in enumerate(("theirs", "c", "b", "a")):
        model = model_of(name)
        snapshot_path(tmp_path, model).mkdir(parents=True)
        (snapshot_path(tmp_path, model) / "model.safetensors").write_bytes(bytes(10 * MIB))
        record_model(tmp_path, model)
        if name != "theirs":
            folder = model_folder(tmp_path, model.model_id)
            mark_fetched(folder)
            os.utime(folder / "fetched", (1e9 - age,) * 2)
    return tmp_path


def model_of(name: str, mib: int = 10) -> StoredModel:
    file = ModelFile(name="model.safetensors", bytes=mib * MIB, sha256="0" * 64)
    return StoredModel(
        model_id=f"acme/{name}", revision="one", size_bytes=mib * MIB, license=None, created_at=now(), files=(file,)
    )


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    """So much of the disk is free."""
    monkeypatch.setattr(fetched, "disk_room", lambda _: Room(10**12, SPARE_BYTES + mib * MIB))


def test_where_there_is_room_nothing_goes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 11)
    assert make_room(store, model_of("new"), 41 * MIB, ()) == []
    assert len(model_ids(store)) == 4


def test_on_a_full_disk_the_least_recently_used_go_until_there_is_room(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 1)
    assert make_room(store, model_of("new", 15), 0, ()) == ["acme/a", "acme/b"]
    assert model_ids(store) == {"acme/theirs", "acme/c"}
    assert not model_folder(store, "acme/a").exists()


def test_what_an_engine_ran_on_lately_goes_last_and_what_is_in_use_not_at_all(store: Path) -> None:
    note_use(store, "acme/a")
    note_use(store, "acme/theirs")
    assert make_room(store, model_of("new"), 31 * MIB, ("acme/b",)) == ["acme/c"]
    assert make_room(store, model_of("new"), 21 * MIB, ("acme/b",)) == ["acme/a"]
    assert model_ids(store) == {"acme/theirs", "acme/b"}


def test_a_model_that_somebody_put_where_a_node_had_failed_to_fetch_it_is_theirs(store: Path) -> None:
    theirs = model_folder(store, "acme/theirs")
    (theirs / "fetching" / "one").mkdir(parents=True)
    note_use(store, "acme/theirs")
    assert not is_fetched(theirs)
    assert "acme/theirs" not in make_room(store, model_of("new"), 11 * MIB, ())


def test_what_would_not_help_stays(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1)
    assert make_room(store, model_of("new", 100), 0, ()) == []
    with pytest.raises(Refused, match="HEARTH_FETCHED_MODELS_MAX"):
        make_room(store, model_of("new"), 25 * MIB, ("acme/a", "acme/b"))
    assert len(model_ids(store)) == 4


def test_what_came_of_a_model_before_it_was_cut_off_counts_and_may_go(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("partial", "fetching/one"):
        (model_folder(store, "acme/cut") / place).mkdir(parents=True)
        (model_folder(store, "acme/cut") / place / "x").write_bytes(bytes(10 * MIB))
    free(monkeypatch, 1)
    assert make_room(store, model_of("cut", 21), 0, ()) == []
    assert make_room(store, model_of("new", 50), 0, ()) == ["acme/cut", "acme/a", "acme/b", "acme/c"]
    assert find_model(store, "acme/theirs") is not None
