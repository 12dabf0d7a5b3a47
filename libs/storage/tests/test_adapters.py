"""Adapters are whole or absent, on a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_storage import adapters as module
from hearth_storage.adapters import (
    AdapterCorrupt,
    AdapterMissing,
    Adapters,
    delete_adapter,
    fetch_adapter,
    list_manifests,
    read_manifest,
    store_adapter,
)
from hearth_storage.bundles import delete_bundle, describe, fault_in, put_files, put_manifest
from hearth_storage.log import read_log
from hearth_storage.objects import ARTIFACTS
from minio import Minio

NOW = -timedelta(hours=1)
"""An age that makes everything old."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    (made / "adapter_config.json").write_text('{"r": 8}')
    (made / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 64)
    return made


def manifest(folder: Path, adapter_id: str = "my-adapter") -> AdapterManifest:
    return AdapterManifest(
        adapter_id=adapter_id,
        base_model_id="org/base",
        base_revision="main",
        rank=8,
        target_modules=("q_proj",),
        files=describe(folder),
        finetune_id="f",
        dataset_id="d",
        dataset_sha256="0",
        created_at=now(),
    )


def test_a_stored_adapter_is_listed_and_comes_back_as_it_was(s3: Minio, folder: Path, tmp_path: Path) -> None:
    stored = manifest(folder)
    store_adapter(s3, folder, stored)
    assert list_manifests(s3) == [stored]
    copy = fetch_adapter(s3, "my-adapter", tmp_path / "copies")
    assert describe(copy) == stored.files


def test_an_adapter_without_its_manifest_does_not_exist(s3: Minio, folder: Path, tmp_path: Path) -> None:
    store_adapter(s3, folder, manifest(folder))
    s3.remove_object(bucket_name=ARTIFACTS, object_name="adapters/my-adapter/manifest.json")
    assert read_manifest(s3, "my-adapter") is None
    assert list_manifests(s3) == []
    with pytest.raises(AdapterMissing):
        fetch_adapter(s3, "my-adapter", tmp_path / "copies")


def test_two_nodes_that_share_a_folder_fetch_an_adapter_at_once_and_both_have_it_whole(
    s3: Minio, folder: Path, tmp_path: Path
) -> None:
    store_adapter(s3, folder, manifest(folder))
    with ThreadPoolExecutor(8) as nodes:
        copies = list(nodes.map(lambda _: fetch_adapter(s3, "my-adapter", tmp_path / "copies"), range(16)))
    assert set(copies) == {tmp_path / "copies" / "my-adapter"}
    assert not fault_in(copies[0], manifest(folder).files)


def test_a_changed_object_is_refused_by_name_and_leaves_no_copy(s3: Minio, folder: Path, tmp_path: Path) -> None:
    stored = manifest(folder)
    store_adapter(s3, folder, stored)
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    s3.fput_object(
        bucket_name=ARTIFACTS,
        object_name="adapters/my-adapter/adapter_model.safetensors",
        file_path=str(folder / "adapter_model.safetensors"),
    )
    with pytest.raises(AdapterCorrupt, match=r"adapter_model\.safetensors"):
        fetch_adapter(s3, "my-adapter", tmp_path / "copies")
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_damaged_local_copy_is_fetched_again(s3: Minio, folder: Path, tmp_path: Path) -> None:
    stored = manifest(folder)
    store_adapter(s3, folder, stored)
    copy = fetch_adapter(s3, "my-adapter", tmp_path / "copies")
    (copy / "adapter_config.json").write_text("{}")
    assert describe(fetch_adapter(s3, "my-adapter", tmp_path / "copies")) == stored.files


def ids(adapters: Adapters) -> list[str]:
    return [each.adapter_id for each in adapters.manifests()]


def keys(s3: Minio) -> set[str]:
    """All but the log and what belongs to it."""
    found = {str(entry.object_name) for entry in s3.list_objects(bucket_name=ARTIFACTS, recursive=True)}
    return {key for key in found if not key.startswith("catalogue/")}


def test_two_processes_see_what_the_other_does_with_its_next_list(s3: Minio, folder: Path) -> None:
    one, other = Adapters(s3), Adapters(s3)
    assert ids(one) == ids(other) == []
    for name in ("b", "a"):
        store_adapter(s3, folder, manifest(folder, name))
    assert ids(one) == ids(other) == ["a", "b"]
    delete_adapter(s3, "a")
    assert ids(one) == ids(other) == ids(Adapters(s3)) == ["b"]


def test_an_adapter_that_is_stored_twice_is_listed_once_and_gone_when_deleted(s3: Minio, folder: Path) -> None:
    adapters = Adapters(s3)
    for _ in range(2):
        store_adapter(s3, folder, manifest(folder))
    assert ids(adapters) == ["my-adapter"]
    delete_adapter(s3, "my-adapter")
    assert ids(adapters) == ids(Adapters(s3)) == []
    assert keys(s3) == set()


@pytest.mark.parametrize("listed_between", ["by a process that knew it", "by a new process"])
def test_an_adapter_that_is_stored_again_is_listed_as_it_is_now_by_whoever_listed_it_meanwhile(
    s3: Minio, folder: Path, listed_between: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = Adapters(s3)
    store_adapter(s3, folder, manifest(folder))
    if listed_between == "by a process that knew it":
        assert ids(adapters) == ["my-adapter"]
    stored, put = manifest(folder), put_manifest

    def listing(*what: Any) -> None:
        assert ids(adapters) == ["my-adapter"]
        put(*what)

    monkeypatch.setattr(module, "put_manifest", listing)
    store_adapter(s3, folder, stored)
    assert adapters.manifests() == Adapters(s3).manifests() == [stored]


def test_an_adapter_that_is_stored_once_has_one_entry(s3: Minio, folder: Path) -> None:
    store_adapter(s3, folder, manifest(folder))
    store_adapter(s3, folder, manifest(folder, "my-adapter-2"))
    assert len(list(read_log(s3, ARTIFACTS))) == 2


def test_an_adapter_that_is_stored_while_it_is_deleted_is_listed_only_as_long_as_it_can_be_read(
    s3: Minio, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = Adapters(s3)
    store_adapter(s3, folder, manifest(folder))
    delete = delete_bundle

    def storing(*what: Any) -> None:
        store_adapter(s3, folder, manifest(folder))
        assert ids(adapters) == ["my-adapter"]
        delete(*what)

    monkeypatch.setattr(module, "delete_bundle", storing)
    delete_adapter(s3, "my-adapter")
    assert read_manifest(s3, "my-adapter") is None
    assert ids(adapters) == ids(Adapters(s3)) == []


def test_an_adapter_that_is_stored_once_its_deletion_is_through_is_listed(
    s3: Minio, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = Adapters(s3)
    store_adapter(s3, folder, manifest(folder))
    delete = delete_bundle

    def storing(*what: Any) -> None:
        delete(*what)
        store_adapter(s3, folder, manifest(folder))

    monkeypatch.setattr(module, "delete_bundle", storing)
    delete_adapter(s3, "my-adapter")
    assert ids(adapters) == ids(Adapters(s3)) == ["my-adapter"]


def test_an_adapter_that_is_stored_again_after_its_deletion_is_listed_and_outlives_the_sweep(
    s3: Minio, folder: Path
) -> None:
    adapters = Adapters(s3)
    store_adapter(s3, folder, manifest(folder))
    delete_adapter(s3, "my-adapter")
    assert ids(adapters) == []
    store_adapter(s3, folder, manifest(folder))
    assert ids(adapters) == ids(Adapters(s3)) == ["my-adapter"]
    adapters.sweep(NOW)
    adapters.sweep(NOW)
    assert ids(adapters) == ids(Adapters(s3)) == ["my-adapter"]
    assert not any(fact.is_gone for fact in read_log(s3, ARTIFACTS))


def test_adapters_of_an_older_hearth_are_listed_at_once_and_deletable(s3: Minio, folder: Path) -> None:
    for name in ("a", "b"):
        put_files(s3, f"adapters/{name}", folder, manifest(folder, name).files)
        put_manifest(s3, f"adapters/{name}", manifest(folder, name))
    put_files(s3, "adapters/half", folder, manifest(folder, "half").files)
    adapters = Adapters(s3)
    assert ids(adapters) == ["a", "b"]
    delete_adapter(s3, "a")
    assert ids(adapters) == ids(Adapters(s3)) == ["b"]


def test_a_listing_that_leaves_a_manifest_out_does_not_lose_the_adapter(
    s3: Minio, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    adapters = Adapters(s3)
    for name in ("a", "b"):
        store_adapter(s3, folder, manifest(folder, name))
    real = module.list_keys
    left_out = "adapters/a/manifest.json"
    monkeypatch.setattr(module, "list_keys", lambda *which: (each for each in real(*which) if each.key != left_out))
    adapters.sweep(NOW)
    adapters.sweep(NOW)
    monkeypatch.undo()
    adapters.sweep(NOW)
    assert "S3's listing of artifacts leaves the record of a~" in caplog.text
    assert ids(adapters) == ids(Adapters(s3)) == ["a", "b"]
    assert read_manifest(s3, "a") is not None


def test_the_sweep_mends_what_died_between_two_steps(s3: Minio, folder: Path) -> None:
    adapters = Adapters(s3)
    assert ids(adapters) == []
    put_files(s3, "adapters/unlogged", folder, manifest(folder).files)
    put_manifest(s3, "adapters/unlogged", manifest(folder, "unlogged"))
    for name in ("whole", "undeleted"):
        store_adapter(s3, folder, manifest(folder, name))
    kept = manifest(folder, "undeleted")
    delete_adapter(s3, "undeleted")
    put_files(s3, "adapters/undeleted", folder, kept.files)
    put_manifest(s3, "adapters/undeleted", kept)  # as if the deletion had died once it was in the log
    adapters.sweep()
    assert ids(adapters) == ids(Adapters(s3)) == ["unlogged", "whole"]
    assert read_manifest(s3, "undeleted") == kept
    adapters.sweep(NOW)
    assert read_manifest(s3, "undeleted") is None
    assert ids(adapters) == ids(Adapters(s3)) == ["unlogged", "whole"]
