"""Each page as it looks: nothing sticks out or is unreadable, axe finds no serious fault, and it looks as its picture.

HEARTH_WRITE_PICTURES=1 writes the pictures in docs/console anew; look at each before you commit it.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.console import world
from tests.console.conftest import Api, Open, opened
from tests.support.browser import Visitor
from tests.support.page_pictures import difference, keep

PICTURES = Path("docs/console")
RUN, DONE, DATASET = world.FINETUNES[0].id, world.FINETUNES[3].id, world.DATASETS[0].id
PAGES = {
    "overview": "overview",
    "models": "models",
    "datasets": "datasets",
    "dataset": f"datasets/{DATASET}",
    "finetune": "finetune",
    "new-finetune": "finetune/new",
    "run": f"finetune/{RUN}",
    "compare": f"finetune/compare?ids={RUN},{DONE}",
    "deploy": "deploy",
    "playground": "playground",
    "jobs": "jobs",
    "job": f"jobs/{world.JOBS[0].id}",
    "keys": "keys",
}
TITLES = {"finetune": "Fine-tune", "keys": "Keys & usage"}
PARTS = {
    "overview": ("text=Served",),
    "models": ("text=Import a folder",),
    "dataset": ("text=Line 1",),
    "new-finetune": (".fit",),
    "run": ("polyline", "text=step 39"),
    "compare": ("text=Where they differ",),
    "deploy": (".fit",),
    "job": ("text=step 39",),
}
"""What tells a page from others under its heading, or comes a moment after it."""

LOOKS = [("desktop", "light"), ("desktop", "dark"), ("phone", "light")]
SERIOUS = {"serious", "critical"}

STICKS_OUT = """() => [...document.querySelectorAll('main *, nav *, header *')].filter((each) => {
  const box = each.getBoundingClientRect();
  return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1) && !each.closest('.sr, thead, .file, pre');
}).map((each) => each.outerHTML.slice(0, 120))"""
OVERLAPS = """() => {
  const parts = [...document.querySelectorAll('main a, main button, main input:not(.file), main select, main textarea')]
    .filter((each) => each.getClientRects().length === 1 && each.checkVisibility())
    .map((each) => [each, each.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
  const found = [];
  parts.forEach(([one, a], at) => parts.slice(at + 1).forEach(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    const apart = !one.contains(other) && !other.contains(one);
    if (wide > 1 && high > 1 && apart) found.push(one.outerHTML + ' on ' + other.outerHTML);
  }));
  return found;
}"""


@pytest.fixture(scope="module")
def looks(browser: Browser, served: str) -> Iterator[dict[tuple[str, str], Visitor]]:
    """A browser window for each look, which goes from page to page as a user would."""
    with ExitStack() as stack:
        yield {look: stack.enter_context(opened(browser, served, Api(), *look)) for look in LOOKS}


@pytest.fixture(params=LOOKS, ids="-".join)
def look(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


def show(page: Page, name: str) -> None:
    """Go to a page, and wait until all of it is there."""
    page.goto(f"/#/{PAGES[name]}")
    title = TITLES.get(PAGES[name].partition("/")[0])
    expect(page.locator("main h1")).to_have_text(title or PAGES[name].partition("/")[0].capitalize())
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)
    expect(page.locator("main .card").first).to_be_visible()
    for part in PARTS.get(name, ()):
        expect(page.locator(part).first).to_be_visible()


def serious_faults(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe finds that keeps people out, by these of its rules or by all."""
    options = {"runOnly": list(rules)} if rules else None
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_readable_and_as_its_picture(
    looks: dict[tuple[str, str], Visitor], look: tuple[str, str], name: str
) -> None:
    visitor = looks[look]
    page = visitor.page
    show(page, name)
    assert page.evaluate(STICKS_OUT) == []
    assert page.evaluate(OVERLAPS) == []
    assert serious_faults(page, ("color-contrast",) if look[1] == "dark" else ()) == []  # all else is as in light
    visitor.check()
    if look[1] == "light":
        picture = PICTURES / f"{name}-{look[0]}.png"
        page.mouse.move(0, 0)
        png = page.screenshot(full_page=True, animations="disabled")
        if os.environ.get("HEARTH_WRITE_PICTURES"):
            keep(png, picture)
        assert difference(png, picture) is None


def test_pictures_of_two_pages_are_told_apart() -> None:
    for where in ("desktop", "phone"):
        png = (PICTURES / f"jobs-{where}.png").read_bytes()
        assert difference(png, PICTURES / f"jobs-{where}.png") is None
        assert difference(png, PICTURES / f"overview-{where}.png") is not None


@pytest.mark.parametrize("where", ["desktop", "phone"])
def test_the_login_is_accessible(open_page: Open, api: Api, where: str) -> None:
    api.problems["GET deployments"] = (401, '{"detail": "an API key is needed"}')
    with open_page("overview", where) as visitor:
        expect(visitor.page.get_by_label("API key", exact=True)).to_be_visible()
        assert serious_faults(visitor.page) == []
