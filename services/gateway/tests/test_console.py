"""The console's files: what is sent with them, and that nothing else is reached through them."""

import gzip
import re
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from redis import Redis

from services.gateway.tests.conftest import Place, serving
from tests.support.servers import free_port, running

FOLDER = Path(str(files("hearth_gateway") / "console"))
MOST_BYTES = 300_000


def test_the_page_is_at_the_root_and_each_file_it_names_is_there(place: Place) -> None:
    page = place.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "console/app.js" in named
    for address in named:
        assert place.http.get(f"/{address}").status_code == 200, address


def test_every_module_that_a_module_asks_for_is_there(place: Place) -> None:
    asked = {
        (FOLDER / path.parent / name).resolve().relative_to(FOLDER).as_posix()
        for path in (each.relative_to(FOLDER) for each in FOLDER.rglob("*.*js"))
        for name in re.findall(r'from ?"([^"]+)"', (FOLDER / path).read_text())
    }
    assert len(asked) > 10
    for name in asked:
        assert place.http.get(f"/console/{name}").headers["content-type"] == "text/javascript; charset=utf-8", name


def test_the_policy_lets_nothing_in_but_our_own_files(place: Place) -> None:
    policy = place.http.get("/").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy
    assert place.http.get("/console/app.js").headers["x-content-type-options"] == "nosniff"


def test_a_file_that_has_not_changed_is_not_sent_again(place: Place) -> None:
    first = place.http.get("/console/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = place.http.get("/console/app.js", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert place.http.get("/console/app.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_files_go_packed_to_who_takes_that(place: Place) -> None:
    with place.http.stream("GET", "/console/style.css", headers={"accept-encoding": "gzip"}) as reply:
        packed = b"".join(reply.iter_raw())
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["vary"] == "Accept-Encoding"
    plain = place.http.get("/console/style.css", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed) == plain.content == (FOLDER / "style.css").read_bytes()


@pytest.mark.parametrize(
    "path",
    ["/console/../app.py", "/console/%2e%2e/app.py", "/console/..%2fapp.py", "/console//etc/passwd", "/console/pages",
     "/console/vendor/", "/console", "/console/app.js%00", "/console/APP.JS", "/console/pages/..%5c..%5capp.py"],
)  # fmt: skip
def test_no_path_leads_out_of_the_folder(place: Place, path: str) -> None:
    port = place.http.base_url.port
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        reply = http.send(httpx.Request("GET", http.base_url.copy_with(raw_path=path.encode())))
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_only_reading_is_answered(place: Place) -> None:
    assert place.http.head("/").status_code == 200
    assert place.http.post("/").status_code == 404


def test_under_a_path_the_root_without_its_slash_leads_to_the_one_with_it(redis: Redis) -> None:
    port, dead = free_port(), f"http://127.0.0.1:{free_port()}"
    gateway = Gateway(GatewaySettings(management_url=dead, dataset_url=dead, root_path="/llm"), redis)
    with running(serving(gateway, port)), httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        assert http.get("/llm").headers["location"] == "/llm/"
        assert "console/app.js" in http.get("/llm/").text
        assert http.get("/llm/console/app.js").status_code == 200


def test_all_of_it_weighs_less_than_300_kb() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < MOST_BYTES
