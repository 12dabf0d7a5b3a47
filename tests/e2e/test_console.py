"""The main job, whole, as somebody does it in the browser: model, dataset, fine-tune, deploy, chat."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import CONSOLE_MODEL_ID, CONVERSATIONS, HYPERPARAMETERS, JOB_SECONDS, Running
from tests.support.browser import Visitor, chromium, visit

pytestmark = pytest.mark.timeout(600)

WHOLE = JOB_SECONDS * 1000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visitor(browser: Browser, platform: Running) -> Iterator[Visitor]:
    with visit(browser, platform.url, viewport={"width": 1280, "height": 900}) as found:
        yield found
        found.check()


def open_page(page: Page, name: str) -> None:
    """By the navigation, as a user."""
    page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_model_is_found_on_the_hub_added_and_deleted(visitor: Visitor, platform: Running) -> None:
    page = visitor.page
    page.goto("/")
    open_page(page, "Models")
    page.get_by_label("Model id, or words to search for").fill("console")
    page.get_by_role("button").filter(has_text=CONSOLE_MODEL_ID).click()
    page.get_by_role("button", name="Check size").click()
    expect(page.get_by_text("It fits")).to_be_visible()
    page.get_by_role("button", name="Add", exact=True).click()
    row = page.get_by_role("table", name="Models and adapters").get_by_role("row").filter(has_text=CONSOLE_MODEL_ID)
    expect(row).to_be_visible(timeout=WHOLE)
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(row).to_have_count(0)
    assert CONSOLE_MODEL_ID not in {each["model_id"] for each in platform.http.get("/api/v1/models/").json()}


def test_the_main_job_is_done_in_the_browser(
    visitor: Visitor, platform: Running, deployed: dict[str, object], taught: list[tuple[str, str]], tmp_path: Path
) -> None:
    page = visitor.page
    page.goto("/")
    expect(page.get_by_text(str(deployed["model_id"])).first).to_be_visible()
    _upload(page, tmp_path)
    _train(page, str(deployed["model_id"]))
    before = platform.http.get("/api/v1/deploy/status/").json()["adapter_ids"]  # tests before this one add to it
    adapter = _deploy(page)
    _chat(page, adapter, *taught[0])
    served = platform.http.get("/api/v1/deploy/status/").json()
    assert served["state"] == "READY"
    assert set(served["adapter_ids"]) == {adapter, *before}


def _upload(page: Page, folder: Path) -> None:
    """First a file with two faults, which are told at their lines, then the good one."""
    open_page(page, "Datasets")
    good = CONVERSATIONS.read_text(encoding="utf-8").splitlines()
    bad = folder / "bad.jsonl"
    bad.write_text("\n".join([good[0], '{"messages": "none"}', good[1], "{not json"]) + "\n")
    page.get_by_label("Choose a file").set_input_files(bad)
    rows = page.get_by_role("table", name="Faults").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("2")
    expect(rows.nth(0)).to_contain_text('{"messages": "none"}')
    expect(rows.nth(1)).to_contain_text("4")
    mended = folder / "mended.jsonl"
    mended.write_bytes(CONVERSATIONS.read_bytes())
    page.get_by_label("Description").fill("from the browser")
    page.get_by_label("Choose a file").set_input_files(mended)
    row = page.get_by_role("table", name="Datasets").get_by_role("row").filter(has_text="from the browser")
    expect(row).to_contain_text(str(len(good)))
    expect(page.get_by_role("table", name="Faults")).to_have_count(0)
    row.get_by_role("link", name="mended.jsonl", exact=True).click()
    question = json.loads(good[0])["messages"][-2]["content"]
    expect(page.get_by_text(question).first).to_be_visible()
    page.get_by_role("link", name="Fine-tune on it").click()


def _train(page: Page, base: str) -> None:
    """With the settings that teach the tiny model; its curve grows while it is watched."""
    page.get_by_label("Name", exact=True).fill("From the browser")
    page.get_by_label("Base model").select_option(base)  # tests before this one may have added others
    page.get_by_text("All settings").click()
    labels = {"max_steps": "Max steps", "batch_size": "Batch size", "learning_rate": "Learning rate"}
    labels |= {"lora_rank": "LoRA rank", "lora_alpha": "LoRA alpha"}
    for name, value in HYPERPARAMETERS.items():
        page.get_by_label(labels[name], exact=True).fill(str(value))
    expect(page.get_by_text(f"{HYPERPARAMETERS['max_steps']} steps over")).to_be_visible()
    expect(page.get_by_text("It fits")).to_be_visible()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="From the browser")).to_be_visible()
    expect(page.get_by_role("button", name="Interrupt")).to_be_visible()
    expect(page.locator("polyline").first).to_be_visible(timeout=WHOLE)
    expect(page.locator(".badge")).to_have_text("finished", timeout=WHOLE)
    expect(
        page.get_by_role("img", name=re.compile("^Loss of From the browser: loss from .* in 80 points"))
    ).to_be_visible()
    expect(page.get_by_role("log")).not_to_contain_text("Nothing yet")


def _deploy(page: Page) -> str:
    """The new adapter beside those that are there. Returns its id."""
    page.get_by_role("link", name="Deploy", exact=True).last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Deploy")
    box = page.get_by_role("checkbox", name=re.compile("^from-the-browser-"))
    expect(box).to_be_checked()
    adapter = box.locator("xpath=..").inner_text().strip()
    expect(page.get_by_text("It fits")).to_be_visible()
    page.get_by_role("button", name="Change the adapters").click()
    card = page.get_by_role("region", name="Language model")
    expect(card).to_contain_text(adapter)
    expect(card).to_contain_text("ready", timeout=WHOLE)
    return adapter


def _chat(page: Page, adapter: str, question: str, answer: str) -> None:
    """The base and its adapter side by side: what was taught is known to one of them."""
    open_page(page, "Playground")
    expect(page.get_by_role("checkbox", name=adapter)).to_be_visible()
    for box in page.get_by_role("group", name="Models").get_by_role("checkbox").all():
        box.uncheck()
    page.get_by_role("checkbox", name="Compressa-LLM").check()
    page.get_by_role("checkbox", name=adapter).check()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Most tokens").fill("40")
    page.get_by_label("Your message").fill(question)
    page.get_by_label("Your message").press("Enter")
    expect(page.get_by_role("article", name=f"Answer of {adapter}")).to_contain_text(answer)
    base = page.get_by_role("article", name="Answer of Compressa-LLM")
    expect(base).to_have_attribute("aria-busy", "false")
    expect(base).not_to_contain_text(answer)
    page.get_by_role("button", name="As code").click()
    expect(page.get_by_role("dialog")).to_contain_text("v1/chat/completions")
