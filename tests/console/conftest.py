"""The console in a real browser, served by a real gateway; the API's answers are fixed, see `world`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.server import server_options
from playwright.sync_api import Browser, Route, expect
from redis import Redis
from uvicorn import Config

from tests.console import world
from tests.support.browser import Visitor, chromium, visit
from tests.support.openapi import document
from tests.support.servers import free_port, running

WIDTHS = {"desktop": 1280, "phone": 375}


@dataclass
class Api:
    """The fixed answers, and what was asked. A test may put others in their place, or problems of a status."""

    answers: dict[str, world.Reply] = field(default_factory=world.replies)
    problems: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    key: str | None = None  # without it everything is 401

    def answer(self, route: Route) -> None:
        """As the API would."""
        request = route.request
        path, query = urlsplit(request.url).path, parse_qs(urlsplit(request.url).query)
        if path == "/api/openapi.json":
            route.fulfill(json=document())
            return
        if path == "/metrics":
            route.fulfill(body=world.METRICS, content_type="text/plain")
            return
        name = f"{request.method} {path.removeprefix('/api/v1/').strip('/')}"
        if path == "/api/v1/models":
            name = "GET openai/models"
        self.asked.append(name)
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            route.fulfill(status=401, body='{"detail": "this API key is not valid"}')
            return
        if name in self.problems:
            status, body = self.problems[name]
            route.fulfill(status=status, body=body, content_type="application/problem+json")
        elif name in self.answers:
            body, kind = self.answers[name]
            if name == "GET jobs":
                body = world.chosen_jobs(query)
            if name.endswith("/metrics") and "follow" not in query:
                body, kind = world.whole_curve(name.split("/")[1]), "application/json"
            route.fulfill(status=200 if body else 204, body=body, content_type=kind)
        else:
            route.fulfill(status=404, body=f'{{"detail": "the test has no answer to {name}"}}')


Open = Callable[..., AbstractContextManager[Visitor]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def served(redis_server: Redis) -> Iterator[str]:
    """The address of a gateway with nothing behind it."""
    port, away = free_port(), f"http://127.0.0.1:{free_port()}"
    gateway = Gateway(GatewaySettings(management_url=away, dataset_url=away), redis_server)
    with running(Config(gateway, **(server_options(gateway.settings) | {"port": port}))):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def api() -> Api:
    return Api()


@contextmanager
def opened(browser: Browser, url: str, api: Api, where: str, theme: str) -> Iterator[Visitor]:
    """A fresh browser window on nothing yet, whose requests to the API get the fixed answers."""
    size = {"width": WIDTHS[where], "height": 800}
    with visit(browser, url, viewport=size, color_scheme=theme, reduced_motion="reduce", locale="en") as visitor:
        for asked in ("**/api/v1/**", "**/api/openapi.json", "**/metrics"):
            visitor.page.context.route(asked, api.answer)
        visitor.page.clock.set_fixed_time(world.NOW)
        yield visitor


@pytest.fixture
def open_page(browser: Browser, served: str, api: Api) -> Open:
    """Open a page of the console in a fresh browser window, and wait until all that it asked for is there."""

    @contextmanager
    def open_it(address: str, where: str = "desktop", theme: str = "light") -> Iterator[Visitor]:
        with opened(browser, served, api, where, theme) as visitor:
            visitor.page.goto(f"/#/{address}")
            expect(visitor.page.get_by_role("heading", level=1)).to_be_visible()
            expect(visitor.page.locator("main [aria-busy=true]")).to_have_count(0)
            yield visitor
            visitor.check()

    return open_it
