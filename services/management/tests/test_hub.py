"""Adding a model: what the hub says of it is answered at once, and a hub that says nothing loses no request."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_fit import machine
from hearth_fit.machine import Room
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import Services
from hearth_models import room as room_module
from hearth_models.room import SPARE_BYTES
from hearth_storage.model_store import model_folder
from huggingface_hub import constants

from services.management.tests.conftest import answered, refused, use_hub
from tests.support.hub import HubServer

MODEL = "acme/tiny"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    folder = tmp_path / "hub" / MODEL
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(bytes(5000))
    (folder / "pytorch_model.bin").write_bytes(bytes(9000))
    with HubServer(tmp_path / "hub") as server:
        use_hub(monkeypatch, server.url)
        yield server


def add(client: TestClient, model_id: str = MODEL, **query: str) -> httpx.Response:
    return client.post("/v1/models/add/", params={"model_id": model_id, **query})


def test_a_model_that_the_hub_has_begins_a_download(client: TestClient, hub: HubServer) -> None:
    assert answered(add(client))["name"] == f"DOWNLOAD_{MODEL}"
    assert hub.requests[-1].path == f"/api/models/{MODEL}"


def test_an_unknown_model_is_refused_at_once(client: TestClient, services: Services, hub: HubServer) -> None:
    refused(add(client, "acme/none"), 404, "acme/none", hub.url)
    assert services.jobs.all() == []


def test_a_gated_model_says_how_to_get_in(
    client: TestClient, services: Services, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated[MODEL] = "good"
    refused(add(client), 403, "gated", "HF_TOKEN", f"{hub.url}/{MODEL}")
    assert services.jobs.all() == []
    monkeypatch.setenv("HF_TOKEN", "good")
    answered(add(client))


def test_a_model_without_safetensors_is_refused_at_once(client: TestClient, services: Services, hub: HubServer) -> None:
    (hub.root / MODEL / "model.safetensors").unlink()
    refused(add(client), 422, "no *.safetensors")
    assert services.jobs.all() == []


@pytest.mark.parametrize(
    ("room", "status"),
    [(Room(10**12, SPARE_BYTES + 5000), 409), (Room(SPARE_BYTES + 5000, SPARE_BYTES + 5000), 422)],
)
def test_a_model_larger_than_the_disk_is_refused_with_the_numbers(
    client: TestClient, services: Services, hub: HubServer, monkeypatch: pytest.MonkeyPatch, room: Room, status: int
) -> None:
    """A full disk of the real size would take minutes to fill: its numbers are made up, the arithmetic is not."""
    monkeypatch.setattr(room_module, "disk_room", lambda _folder: room)
    size = sum((hub.root / MODEL / name).stat().st_size for name in ("config.json", "model.safetensors"))
    assert SPARE_BYTES + size > room.free
    refused(add(client), status, "GiB of disk", "delete models")
    assert services.jobs.all() == []
    blobs = model_folder(services.home.models, MODEL) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x").write_bytes(bytes(5000))  # of an attempt before: it need not come again
    answered(add(client))


def test_a_dry_run_answers_the_numbers_and_begins_nothing(
    client: TestClient, services: Services, hub: HubServer
) -> None:
    found = answered(add(client, dry_run="true"))
    assert (found["fits"], found["needs"][0]["resource"]) == (True, "disk")
    size = sum((hub.root / MODEL / name).stat().st_size for name in ("config.json", "model.safetensors"))
    assert found["needs"][0]["parts"] == {"files": size, "spare": SPARE_BYTES}
    refused(add(client, "acme/none", dry_run="true"), 404)
    assert services.jobs.all() == []


def test_a_download_that_could_not_be_served_here_says_so(
    client: TestClient, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "look", lambda: machine.Machine(Room(4000, 4000)))
    assert "more than this machine's memory" in answered(add(client, dry_run="true"))["notes"][0]


def test_a_hub_that_is_away_is_asked_by_the_job(client: TestClient, services: Services) -> None:
    job = answered(add(client))
    assert services.jobs.get(job["id"]).name == f"DOWNLOAD_{MODEL}"
    found = answered(add(client, "acme/other", dry_run="true"))
    assert (found["fits"], found["needs"]) == (True, [])
    assert "does not answer" in found["notes"][0]


def test_a_hub_that_hangs_is_not_waited_for(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = replace(services, settings=ManagementSettings(hub_seconds=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and answers none
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        answered(add(TestClient(management_app(hasty))))


def test_offline_nothing_is_asked_and_the_answer_says_what_to_do(
    client: TestClient, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(add(client), 409, "HF_HUB_OFFLINE", "/v1/models/import/")
    assert hub.requests == []


def test_a_model_that_is_there_or_on_its_way_is_not_asked_for(
    client: TestClient, hub: HubServer, put_model: Callable[..., None]
) -> None:
    put_model("acme/there")
    refused(add(client, "acme/there"), 409, "there already")
    job = answered(add(client))
    hub.requests.clear()
    refused(add(client), 409, job["id"])
    assert hub.requests == []


@pytest.mark.parametrize(
    "model_id", ["..", "a/../b", "a@evil.example/b", "//evil.example/x", "a%2f..%2fb", "a?x=1/b", "http://e/x"]
)
def test_no_id_leads_a_request_anywhere(client: TestClient, hub: HubServer, model_id: str) -> None:
    refused(add(client, model_id), 422, "is not a model id")
    assert hub.requests == []


def search(client: TestClient, text: str) -> httpx.Response:
    return client.get("/v1/hub/models/", params={"search": text})


def test_the_hub_is_searched_by_name(client: TestClient, hub: HubServer) -> None:
    (hub.root / MODEL / "README.md").write_text("---\nlicense: mit\n---\n")
    hub.gated[MODEL] = "secret"
    assert search(client, "TINY").json() == [{"model_id": MODEL, "downloads": 0, "license": "mit", "gated": True}]
    assert search(client, "huge").json() == []
    assert search(client, "x").status_code == 422


def test_a_search_says_that_the_hub_is_away(client: TestClient) -> None:
    reply = search(client, "tiny")
    assert reply.status_code == 503
    assert "import a folder" in reply.json()["detail"]


def test_a_search_without_a_hub_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reply = search(client, "tiny")
    assert reply.status_code == 409
    assert "HF_HUB_OFFLINE" in reply.json()["detail"]
