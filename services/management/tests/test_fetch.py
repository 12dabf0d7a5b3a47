"""Fetching a model, by the process that does it, from a hub-compatible server and from folders."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.models import ModelFile
from hearth_management.large_files import bring_large_files
from hearth_models.refusals import Refused, disk_errors
from hearth_storage.model_store import describe_model
from huggingface_hub import HfApi

from tests.support.hub import HubServer
from tests.support.servers import free_port

MODEL = "acme/tiny"
WEIGHTS = "model.safetensors"
SIZE = 24 * 2**20  # the hub's client writes portions of 10 MiB


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The model's files as the hub has them."""
    folder = tmp_path / "hub" / MODEL
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(os.urandom(SIZE))
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    return folder


@pytest.fixture
def hub(tmp_path: Path, origin: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


def start(store: Path, url: str, *words: str, **env: str) -> "subprocess.Popen[str]":
    how = words or ("download", MODEL)
    command = [sys.executable, "-m", "hearth_management.fetch", *how[:2], str(store), *how[2:]]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {**clean, "HF_ENDPOINT": url, "HF_HOME": str(store.parent / "hf-home"), **env}
    return subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def fetch(store: Path, url: str, *words: str, **env: str) -> list[dict[str, Any]]:
    """Its events."""
    with start(store, url, *words, **env) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def refusal(events: list[dict[str, Any]]) -> str:
    assert events[-1]["event"] == "refused"
    return str(events[-1]["reason"])


def killed_in_mid_download(store: Path, hub: HubServer) -> int:
    """Kill -9 a download once a part of the weights is on disk; how many bytes the hub had sent of it."""
    hub.bytes_per_second = 16 * 2**20
    with start(store, hub.url) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["done"] >= 10 * 2**20:
                break
        process.kill()
    hub.bytes_per_second = None
    return hub.sent(WEIGHTS)


def test_a_model_comes_whole_with_its_revision_and_licence(hub: HubServer, store: Path, origin: Path) -> None:
    events = fetch(store, hub.url)
    fetched = events[-1]
    assert fetched["event"] == "fetched"
    assert (fetched["license"], fetched["revision"]) == ("apache-2.0", hub.commit(MODEL))
    snapshot = store / "models--acme--tiny" / "snapshots" / fetched["revision"]
    assert sorted(path.name for path in snapshot.iterdir()) == ["README.md", "config.json", WEIGHTS]
    assert (snapshot / WEIGHTS).read_bytes() == (origin / WEIGHTS).read_bytes()
    assert fetched["size_bytes"] == sum(path.stat().st_size for path in snapshot.iterdir())
    assert fetched["on_hub"] is True
    assert [ModelFile(**file) for file in fetched["files"]] == list(describe_model(snapshot))
    progress = [event["done"] for event in events[:-1]]
    assert progress == sorted(progress)
    assert progress[-1] == fetched["size_bytes"]
    assert not (store / "models--acme--tiny" / "partial").exists()
    assert hub.sent(WEIGHTS) == SIZE


def test_what_can_run_code_is_never_asked_for(hub: HubServer, store: Path) -> None:
    fetch(store, hub.url)
    assert not [hit.path for hit in hub.requests if hit.path.endswith((".bin", ".py"))]


def test_a_killed_download_goes_on_where_it_ended(hub: HubServer, store: Path, origin: Path) -> None:
    killed_in_mid_download(store, hub)
    hub.requests.clear()
    events = fetch(store, hub.url)
    snapshot = store / "models--acme--tiny" / "snapshots" / events[-1]["revision"]
    assert (snapshot / WEIGHTS).read_bytes() == (origin / WEIGHTS).read_bytes()
    assert 0 < hub.sent(WEIGHTS) <= SIZE - 10 * 2**20
    assert events[0]["done"] >= 10 * 2**20  # progress begins with what is there already
    assert not list((store / "models--acme--tiny").rglob("*.incomplete"))


def test_a_connection_cut_in_mid_file_is_resumed(hub: HubServer, store: Path, origin: Path) -> None:
    hub.cut_once[WEIGHTS] = 15 * 2**20
    events = fetch(store, hub.url)
    snapshot = store / "models--acme--tiny" / "snapshots" / events[-1]["revision"]
    assert (snapshot / WEIGHTS).read_bytes() == (origin / WEIGHTS).read_bytes()
    assert hub.sent(WEIGHTS) < 2 * SIZE


def test_damaged_bytes_are_refused_and_thrown_away(hub: HubServer, store: Path) -> None:
    killed_in_mid_download(store, hub)
    (partial,) = (store / "models--acme--tiny" / "partial").iterdir()
    with partial.open("r+b") as file:
        file.write(b"\0" * 4096)
    words = refusal(fetch(store, hub.url))
    assert WEIGHTS in words
    assert "SHA-256" in words
    assert not partial.exists()
    assert not list((store / "models--acme--tiny" / "blobs").glob(partial.name))
    assert fetch(store, hub.url)[-1]["event"] == "fetched"


def test_a_partial_file_longer_than_the_file_is_begun_anew(hub: HubServer, store: Path, origin: Path) -> None:
    sha256 = hashlib.sha256((origin / WEIGHTS).read_bytes()).hexdigest()
    partial = store / "models--acme--tiny" / "partial"
    partial.mkdir(parents=True)
    (partial / sha256).write_bytes(b"x" * (SIZE + 1))
    assert fetch(store, hub.url)[-1]["event"] == "fetched"


def test_a_full_disk_is_said_and_what_was_downloaded_is_kept(
    hub: HubServer, store: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256((origin / WEIGHTS).read_bytes()).hexdigest()
    partial = store / "models--acme--tiny" / "partial"
    partial.mkdir(parents=True)
    (partial / sha256).symlink_to("/dev/full")  # the kernel's own disk that is always full
    words = refusal(fetch(store, hub.url))
    assert "the disk is full" in words
    assert MODEL in words


def test_a_gated_model_names_the_licence_and_the_token(hub: HubServer, store: Path) -> None:
    hub.gated[MODEL] = "hf_right"
    words = refusal(fetch(store, hub.url))
    assert "gated" in words
    assert f"{hub.url}/{MODEL}" in words
    assert "HF_TOKEN" in words
    assert fetch(store, hub.url, HF_TOKEN="hf_right")[-1]["event"] == "fetched"


def test_an_unknown_model_says_so(hub: HubServer, store: Path) -> None:
    assert "knows no model acme/nothing" in refusal(fetch(store, hub.url, "download", "acme/nothing"))


def test_a_model_without_safetensors_is_refused_before_a_byte_comes(hub: HubServer, store: Path, origin: Path) -> None:
    (origin / WEIGHTS).unlink()
    assert "no *.safetensors" in refusal(fetch(store, hub.url))
    assert not [hit for hit in hub.requests if "/resolve/" in hit.path]


def test_offline_names_the_setting_and_the_way_out(hub: HubServer, store: Path) -> None:
    words = refusal(fetch(store, hub.url, HF_HUB_OFFLINE="1"))
    assert "HF_HUB_OFFLINE" in words
    assert "import" in words


def test_a_hub_that_is_away_is_named(store: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    words = refusal(fetch(store, url))
    assert f"{url} is not reachable" in words
    assert "HF_ENDPOINT" in words


def test_a_folder_is_imported_with_its_licence_and_the_same_revision_each_time(origin: Path, store: Path) -> None:
    words = ("import", "acme/own", "--folder", str(origin))
    first, second = (fetch(store, "http://127.0.0.1:9", *words)[-1] for _ in range(2))
    assert first == second
    assert (first["event"], first["license"]) == ("fetched", "apache-2.0")
    snapshot = store / "models--acme--own" / "snapshots" / first["revision"]
    assert (snapshot / WEIGHTS).read_bytes() == (origin / WEIGHTS).read_bytes()
    assert first["on_hub"] is False
    assert [ModelFile(**file) for file in first["files"]] == list(describe_model(snapshot))
    assert not list(snapshot.glob("*.bin"))
    assert not list(snapshot.glob("*.py"))
    assert not (store / "models--acme--own" / "importing").exists()


def test_a_link_that_leads_out_of_the_folder_is_not_followed(origin: Path, store: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (origin / "generation_config.json").symlink_to(secret)
    words = refusal(fetch(store, "http://127.0.0.1:9", "import", "acme/own", "--folder", str(origin)))
    assert "generation_config.json is a link that leads out" in words
    assert not (store / "models--acme--own" / "snapshots").exists()


def test_a_full_disk_is_said_of_imports_too() -> None:
    with pytest.raises(Refused, match="the disk is full"), disk_errors(MODEL), Path("/dev/full").open("wb", 0) as file:
        file.write(b"x")


def test_a_path_is_never_made_of_a_hash_that_is_none(hub: HubServer, store: Path) -> None:
    files = HfApi(endpoint=hub.url).model_info(MODEL, files_metadata=True).siblings or []
    (weights,) = (file for file in files if file.rfilename == WEIGHTS)
    assert weights.lfs is not None
    weights.lfs.sha256 = "../../elsewhere"
    bring_large_files(MODEL, "main", [weights], store)
    assert not list(store.rglob("*elsewhere*"))
    assert hub.sent(WEIGHTS) == 0
