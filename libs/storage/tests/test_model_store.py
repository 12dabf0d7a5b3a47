"""The model store believes only what its record says, and makes no path of what is not an id."""

from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.models import StoredModel
from hearth_storage.model_store import (
    delete_model,
    find_model,
    list_models,
    model_folder,
    record_model,
    snapshot_path,
)


def put(store: Path, model_id: str = "org/base") -> StoredModel:
    model = StoredModel(model_id=model_id, revision="abc", size_bytes=1, license="mit", created_at=now())
    snapshot_path(store, model).mkdir(parents=True)
    record_model(store, model)
    return model


def test_a_recorded_model_is_found_and_listed(tmp_path: Path) -> None:
    model = put(tmp_path)
    assert find_model(tmp_path, "org/base") == model
    assert list_models(tmp_path) == [model]


def test_a_model_without_its_record_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "models--org--base" / "snapshots" / "abc").mkdir(parents=True)
    assert find_model(tmp_path, "org/base") is None
    assert list_models(tmp_path) == []


def test_a_record_without_its_snapshot_does_not_count(tmp_path: Path) -> None:
    model = put(tmp_path)
    snapshot_path(tmp_path, model).rmdir()
    assert find_model(tmp_path, "org/base") is None


def test_a_deleted_model_is_gone_whole(tmp_path: Path) -> None:
    put(tmp_path)
    delete_model(tmp_path, "org/base")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["../x", "a/../b", "a/b/c", "", "/etc", "a--b", ".hidden", "a\nb", "a" * 97, "ä/b"])
def test_what_cannot_be_an_id_makes_no_path(tmp_path: Path, text: str) -> None:
    assert find_model(tmp_path, text) is None
    with pytest.raises(ValueError, match="is not a model id"):
        model_folder(tmp_path, text)
