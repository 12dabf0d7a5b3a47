"""Adapters are whole or absent, on a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_storage.adapters import (
    AdapterCorrupt,
    AdapterMissing,
    fetch_adapter,
    list_manifests,
    read_manifest,
    store_adapter,
)
from hearth_storage.bundles import describe, fault_in
from hearth_storage.objects import ARTIFACTS
from minio import Minio


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
