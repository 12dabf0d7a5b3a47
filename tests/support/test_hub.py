"""The test hub against the real `huggingface_hub`: what it is trusted with, so that its own users need not ask."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get

from tests.support.hub import HubServer

REPO = "acme/tiny"
BIG = "model.safetensors"
SIZE = 3_000_000  # bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hub with one model, of one big file and a few small ones."""
    folder = tmp_path / "hub" / REPO
    (folder / "nested").mkdir(parents=True)
    (folder / BIG).write_bytes(os.urandom(SIZE))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    (folder / "nested" / "empty.txt").touch()
    return tmp_path / "hub"


@pytest.fixture
def hub(root: Path) -> Iterator[HubServer]:
    with HubServer(root) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_model_info_has_sizes_digests_and_licence(hub: HubServer, root: Path) -> None:
    info = HfApi(endpoint=hub.url).model_info(REPO, files_metadata=True)

    assert info.sha == hub.commit(REPO)
    assert info.gated is False
    assert info.card_data is not None and info.card_data.license == "apache-2.0"
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert sorted(files) == ["README.md", "config.json", BIG, "nested/empty.txt"]
    assert files[BIG].size == SIZE
    lfs = files[BIG].lfs
    assert lfs is not None and lfs.sha256 == digest(root / REPO / BIG)
    assert files["config.json"].lfs is None


def test_snapshot_download_brings_every_byte_in_the_cache_layout(hub: HubServer, root: Path, cache: Path) -> None:
    snapshot = Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=cache))

    assert snapshot == cache / "models--acme--tiny" / "snapshots" / hub.commit(REPO)
    for path in (root / REPO).rglob("*"):
        if path.is_file():
            assert digest(snapshot / path.relative_to(root / REPO)) == digest(path)
    assert (snapshot / BIG).resolve().name == digest(root / REPO / BIG)  # blobs are named by their ETag


def test_a_second_download_sends_nothing_again(hub: HubServer, cache: Path) -> None:
    snapshot_download(REPO, endpoint=hub.url, cache_dir=cache)
    hub.requests.clear()

    snapshot_download(REPO, endpoint=hub.url, cache_dir=cache)

    assert sum(hit.sent for hit in hub.requests) == 0


def test_xet_is_never_used_even_where_it_is_installed(hub: HubServer, cache: Path) -> None:
    snapshot_download(REPO, endpoint=hub.url, cache_dir=cache)

    assert hub.sent(BIG) == SIZE  # the file came over plain HTTP, from here
    assert not [hit for hit in hub.requests if "xet" in hit.path]


def test_a_cut_connection_is_resumed_where_it_broke(
    hub: HubServer, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portion = 100_000  # the client forgets an unfinished portion; its own size is 10 MiB, more than this file
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", portion)
    hub.cut_once[BIG] = 2_050_000

    snapshot = Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=cache))

    assert digest(snapshot / BIG) == digest(root / REPO / BIG)
    first, second = (hit for hit in hub.requests if hit.path.endswith(BIG) and hit.method == "GET")
    assert (first.status, first.sent) == (200, 2_050_000)
    assert (second.status, second.range) == (206, "bytes=2000000-")
    assert second.sent == SIZE - 2_000_000  # half a portion came twice, the rest once


def test_a_partial_file_of_an_earlier_process_is_resumed(hub: HubServer, root: Path) -> None:
    """`snapshot_download` drops partial files when it ends; a downloader that keeps its own calls `http_get` so."""
    whole = (root / REPO / BIG).read_bytes()
    partial = io.BytesIO(whole[:1_000_000])
    partial.seek(0, io.SEEK_END)

    http_get(
        f"{hub.url}/{REPO}/resolve/main/{BIG}",
        partial,
        resume_size=1_000_000,
        expected_size=SIZE,
    )

    assert partial.getvalue() == whole
    assert hub.sent(BIG) == SIZE - 1_000_000


def test_throttle_paces_the_bytes(hub: HubServer, root: Path) -> None:
    hub.bytes_per_second = 4 * SIZE
    with httpx.stream("GET", f"{hub.url}/{REPO}/resolve/main/{BIG}") as response:
        portions = response.iter_raw()
        received = len(next(portions))
        assert hub.sent(BIG) < SIZE  # it has begun, and not sent all
        received += sum(len(portion) for portion in portions)
    assert received == SIZE
    assert response.elapsed.total_seconds() > 0.15  # a quarter of a second, less the last wait


def test_gated_repository_opens_to_its_token_alone(hub: HubServer, cache: Path) -> None:
    hub.gated[REPO] = "hf_good"

    assert HfApi(endpoint=hub.url).model_info(REPO).gated == "manual"
    for token in (False, "hf_bad"):
        with pytest.raises(GatedRepoError):
            hf_hub_download(REPO, "config.json", endpoint=hub.url, cache_dir=cache, token=token)
    with pytest.raises(GatedRepoError):
        snapshot_download(REPO, endpoint=hub.url, cache_dir=cache, token=False)
    assert Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=cache, token="hf_good")).is_dir()


@pytest.mark.parametrize("token", [False, "hf_any"])
def test_unknown_repository(hub: HubServer, cache: Path, token: str | bool) -> None:
    with pytest.raises(RepositoryNotFoundError) as caught:
        HfApi(endpoint=hub.url).model_info("acme/nothing", token=token)

    assert caught.value.response.status_code == (401 if token is False else 404)
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download("acme/nothing", endpoint=hub.url, cache_dir=cache, token=token)


def test_unknown_revision_and_file(hub: HubServer, cache: Path) -> None:
    with pytest.raises(RevisionNotFoundError):
        snapshot_download(REPO, revision="v9", endpoint=hub.url, cache_dir=cache)
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPO, "nothing.txt", endpoint=hub.url, cache_dir=cache)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (206, 1)),
        ("bytes=-5", (206, 5)),
        ("bytes=10-", (206, SIZE - 10)),
        (f"bytes={SIZE}-", (416, 0)),
    ],
)
def test_ranges(hub: HubServer, header: str, expected: tuple[int, int]) -> None:
    response = httpx.get(f"{hub.url}/{REPO}/resolve/main/{BIG}", headers={"Range": header})

    assert (response.status_code, len(response.content)) == expected


def test_nothing_outside_the_root_is_served(hub: HubServer) -> None:
    for path in (
        "/..%2F..%2Fetc/passwd/resolve/main/x",
        f"/{REPO}/resolve/main/..%2F..%2F..%2Fsecret",
    ):
        assert httpx.get(hub.url + path).status_code in (401, 404)


def test_a_changed_file_is_another_revision(hub: HubServer, root: Path) -> None:
    before = hub.commit(REPO)
    (root / REPO / "config.json").write_text('{"model_type": "other"}')

    assert hub.commit(REPO) != before


def test_hf_endpoint_alone_points_a_whole_process_here(hub: HubServer, cache: Path) -> None:
    code = "import sys, huggingface_hub; print(huggingface_hub.snapshot_download(sys.argv[1]))"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
    ran = subprocess.run(
        [sys.executable, "-c", code, REPO],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert (Path(ran.stdout.strip()) / "config.json").is_file()
