"""The console with the real services, their Redis and their S3, but no engine and no worker: what is begun waits.

So nothing here depends on how long something takes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.models import StoredModel
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import model_folder, record_model
from huggingface_hub import constants
from minio import Minio
from playwright.sync_api import Browser, Page, expect
from redis import Redis

from services.management.tests.conftest import BASE_SHAPES, SMALL, safetensors
from tests.conftest import CONVERSATIONS
from tests.support.browser import Visitor, visit
from tests.support.control_plane import control_plane
from tests.support.servers import free_port

BASE = "acme/base"


@dataclass
class Place:
    """Where the console is, and the folder of its models."""

    url: str
    home: HomeSettings


@pytest.fixture
def place(
    redis: Redis, redis_url: str, s3: Minio, s3_settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Gateway, management and dataset service, with one base model and one folder to import."""
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    home = HomeSettings(home=tmp_path / "home")
    (home.imports / "a-folder").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (home.imports / "a-folder" / name).write_text("{}")
    snapshot = model_folder(home.models, BASE) / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **SMALL}))
    (snapshot / "model.safetensors").write_bytes(safetensors(BASE_SHAPES))
    record_model(home.models, StoredModel(model_id=BASE, revision="abc", size_bytes=7, license="mit", created_at=now()))
    with control_plane(home, redis, redis_url, s3, s3_settings) as url:
        yield Place(url, home)


@pytest.fixture
def visitor(browser: Browser, place: Place) -> Iterator[Visitor]:
    with visit(browser, place.url, viewport={"width": 1280, "height": 900}) as found:
        yield found
        found.check()


def upload(page: Page, name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "application/jsonl", "buffer": content}
    page.get_by_label("Choose a file").set_input_files(file)  # type: ignore[arg-type]


def test_from_a_bad_file_to_a_training_that_waits_is_stopped_and_resumed(visitor: Visitor) -> None:
    page = visitor.page
    page.goto("/#/datasets")
    good = CONVERSATIONS.read_bytes().splitlines()
    upload(page, "bad.jsonl", b"\n".join([good[0], b'{"messages": "none"}', good[1], b"{not json", b""]))
    rows = page.get_by_role("table", name="Faults").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text('{"messages": "none"}')
    expect(rows.nth(1)).to_contain_text("{not json")
    page.get_by_label("Description").fill("from the browser")
    upload(page, "good.jsonl", CONVERSATIONS.read_bytes())
    page.get_by_role("link", name="good.jsonl", exact=True).click()
    expect(page.get_by_text(json.loads(good[0])["messages"][-1]["content"]).first).to_be_visible()
    page.get_by_role("link", name="Fine-tune on it").click()
    page.get_by_label("LoRA rank").fill("999")
    expect(page.get_by_label("LoRA rank")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("LoRA rank").fill("32")
    page.get_by_label("Epochs").fill("2")
    expect(page.get_by_text("It fits")).to_be_visible()
    page.get_by_text("All settings").click()
    expect(page.get_by_label("LoRA alpha")).to_have_attribute("placeholder", "64")  # chosen as twice the rank
    page.get_by_label("Name", exact=True).fill("Waits")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="Waits")).to_be_visible()
    expect(page.get_by_text("waiting")).to_be_visible()
    page.get_by_role("button", name="Interrupt").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("waiting")).to_be_visible()
    page.goto("/#/overview")
    expect(page.get_by_role("region", name="Queues").get_by_role("alert")).to_contain_text("Nobody takes from")


def test_models_are_imported_looked_for_and_deleted(visitor: Visitor, place: Place) -> None:
    page = visitor.page
    page.goto("/#/models")
    page.get_by_label("Model id, or words to search for").fill("some model")
    expect(page.get_by_text("is not reachable")).to_be_visible()
    page.get_by_label("Id to give it").fill("acme/imported")
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("list", name="At work")).to_contain_text("IMPORT_acme/imported")
    page.get_by_role("button", name="Stop IMPORT_acme/imported").click()
    expect(page.get_by_role("status").filter(has_text="IMPORT_acme/imported was stopped")).to_be_visible()
    page.get_by_role("button", name=f"Delete {BASE}").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No models yet")).to_be_visible()
    assert not model_folder(place.home.models, BASE).exists()


def test_a_deployment_is_asked_for_shown_and_taken_back(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(f"/#/deploy?model={BASE}")
    page.get_by_text("Engine settings").click()
    page.get_by_label("Context length").fill("5")
    expect(page.get_by_label("Context length")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Context length").fill("128")
    expect(page.get_by_text("It fits")).to_be_visible()
    page.get_by_role("button", name="Deploy", exact=True).click()
    card = page.get_by_role("region", name="Language model")
    expect(card).to_contain_text("loading")
    card.get_by_role("button", name="Undeploy").click()
    page.get_by_role("button", name="Undeploy it").click()
    expect(card).to_contain_text("Nothing is deployed")
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_text("No language model answers right now")).to_be_visible()


def test_with_the_first_key_the_door_closes_and_the_login_opens_it(
    visitor: Visitor, browser: Browser, place: Place
) -> None:
    page = visitor.page
    page.goto("/#/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name", exact=True).fill("boss")
    page.get_by_role("button", name="Make").click()
    secret = page.get_by_role("dialog").locator("pre").inner_text()
    page.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_role("table", name="Keys")).to_contain_text("boss")
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.get_by_text("No such job")).to_be_visible()
    with visit(browser, place.url) as stranger:
        other = stranger.page
        other.goto("/#/jobs")
        other.get_by_label("API key", exact=True).fill(f"{secret}0")
        other.get_by_role("button", name="Log in").click()
        expect(other.get_by_role("alert")).to_contain_text("not valid")
        other.get_by_label("API key", exact=True).fill(secret)
        other.get_by_role("button", name="Log in").click()
        expect(other.get_by_text("No such job")).to_be_visible()
        stranger.check()
