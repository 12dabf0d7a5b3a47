"""A real browser: Debian's Chromium, driven by Playwright, that reaches nothing but the server under test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

SECONDS = 15
FLAGS = ("--font-render-hinting=none", "--disable-dev-shm-usage")
"""Text that looks the same everywhere; and no need of more shared memory than a container has."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Close it before asynchronous tests run: Playwright keeps an event loop in this thread."""
    program = os.environ.get("HEARTH_CHROMIUM") or shutil.which("chromium")
    assert program, "these tests need Chromium (on Debian: apt install chromium), or its path in HEARTH_CHROMIUM"
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*sandbox, *FLAGS])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visitor:
    """A page of the browser, and what went wrong or where it should not on it."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)  # addresses of other hosts
    complaints: list[str] = field(default_factory=list)  # errors of scripts, and what the security policy stopped

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._heard(message.type, message.text))

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:  # which is any answer of 400 and above
            self.complaints.append(text)

    def check(self) -> None:
        """Raise AssertionError for what must never happen, whatever the page does."""
        assert self.elsewhere == []
        assert self.complaints == []


@contextmanager
def visit(browser: Browser, url: str, **options: object) -> Iterator[Visitor]:
    """A fresh page whose addresses are relative to `url`. What leads to another host is stopped and told."""
    context: BrowserContext = browser.new_context(base_url=url, service_workers="block", **options)  # type: ignore[arg-type]
    context.set_default_timeout(SECONDS * 1000)
    visitor = Visitor(context.new_page())

    def watch(route: Route) -> None:
        if route.request.url.startswith((url, "blob:", "data:")):
            route.fallback()
        else:
            visitor.elsewhere.append(route.request.url)
            route.abort()

    context.route("**/*", watch)
    try:
        yield visitor
    finally:
        print(f"{visitor.page.url} showed at the end:\n{visitor.page.inner_text('body')}")  # for pytest to show
        context.close()
