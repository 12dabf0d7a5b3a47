"""Attacks on the running gateway, byte by byte. docs/security.md lists them with what each gets."""

import re
import socket
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from hearth_access.key_store import KeyStore
from hearth_contracts.access import KeyRequest, Role
from redis import Redis

from services.gateway.tests.conftest import Place, StandIn, asking
from services.gateway.tests.test_access import bearer, gateway
from tests.support.servers import running

CHAT = "/v1/chat/completions"
BODY = b'{"model":"LLM","messages":[]}'


@pytest.fixture
def served(redis: Redis) -> Iterator[tuple[httpx.Client, StandIn]]:
    """A gateway without keys, an engine and services behind it."""
    engine = StandIn()
    with gateway(redis, max_body_bytes=10_000) as (made, http):
        with running(uvicorn.Config(engine, port=engine.port, lifespan="off", log_config=None)):
            Place(made, http, redis, StandIn).report(engine, "LLM")
            yield http, engine


def raw(http: httpx.Client, data: bytes) -> list[int]:
    """The statuses of what comes back for these bytes until the gateway closes or falls silent."""
    got = b""
    with socket.create_connection(("127.0.0.1", http.base_url.port or 0), 5) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(65_536):
            got += piece
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


LENGTH = f"Content-Length: {len(BODY)}"


FRAMINGS = [
    (LENGTH, "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", LENGTH),
    (LENGTH, "Content-Length: 5"),
    ("Content-Length: +5",),
    ("Content-Length: -1",),
    ("Content-Length: 0x1d",),
    ("Content-Length: 99999999999999999999999",),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding: xchunked",),
    ("Transfer-Encoding : chunked",),
    ("X-A: b\nX-B: c\r\n folded",),
    ("X-A: nul\0",),
    ("Bad Name: x", LENGTH),
]


@pytest.mark.parametrize("path", [CHAT, "/api/v1/deploy/"])
def test_a_framing_that_two_servers_could_read_in_two_ways_passes_nothing(
    served: tuple[httpx.Client, StandIn], path: str
) -> None:
    http, engine = served
    smuggled = b"GET /api/v1/keys/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for lines in FRAMINGS:
        statuses = raw(http, head(path, *lines) + BODY + smuggled)
        assert len(statuses) <= 1 and all(400 <= status < 500 for status in statuses), lines
    assert engine.got == []
    assert http.get("/health/live").status_code == 200


def test_a_body_that_is_no_json_is_a_4xx_of_openais(served: tuple[httpx.Client, StandIn]) -> None:
    http, engine = served
    no_json = [b"", b"{", b"\xff\xfe", b'{"model": "\xff"}', b"[" * 5000, b"null"]
    for body in [*no_json, b'{"model": 1}', b'{"model": "\\ud800"}']:
        reply = http.post(CHAT, content=body)
        assert reply.status_code in (400, 404), body
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in reply.text and engine.got == []


def test_too_large_a_body_and_head_are_refused(served: tuple[httpx.Client, StandIn]) -> None:
    http, engine = served
    assert http.post(CHAT, content=b"x" * 10_001).status_code == 413
    assert http.post(CHAT, content=(b"x" * 100 for _ in range(200))).status_code == 413
    assert raw(http, head(CHAT, "X-Long: " + "x" * 70_000, LENGTH)) in ([431], [])  # or cut while it still sends
    assert engine.got == []


PATHS = [
    "/api/v1/datasets/..%2f..%2fv1%2fkeys", "/api/v1/datasets/../keys", "/api/v1/datasets/%2e%2e/keys",
    "/api/v1/datasets/%252e%252e/keys", "/api/v1/datasets/..;/keys", "/api/v1/datasets/..%5ckeys",
    "/api/v1//keys", "/api/v1/./keys", "/api/v1/datasets/./../keys", "/api/v1/KEYS", "/api/v1/keys%00",
    "/api/v1/%6beys", "/v1/files/../keys", "//api/v1/keys", "/api/docs/../v1/keys", "/api/v1/datasets/a\u2025/keys",
]  # fmt: skip


def test_no_spelling_of_a_path_takes_a_user_to_what_is_an_admins(redis: Redis) -> None:
    user = KeyStore(redis).create(KeyRequest(name="u"))
    auth = f"Authorization: Bearer {user.secret}\r\nConnection: close\r\n\r\n".encode()
    with gateway(redis) as (_, http):
        for path in PATHS:
            with socket.create_connection(("127.0.0.1", http.base_url.port or 0), 5) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + auth)
                answer = b"".join(iter(lambda client=client: client.recv(65_536), b""))  # type: ignore[misc]
            status, reached = int(answer.split()[1]), re.search(rb'"path":"([^"]*)"', answer)
            if status == 200:  # the one service that a user may reach, which checks ids itself
                assert reached is not None and reached[1].startswith(b"/v1/datasets/"), path
            else:
                assert status in (400, 403, 404), path


def test_what_only_the_gateway_may_say_is_not_taken_from_clients(redis: Redis) -> None:
    user = KeyStore(redis).create(KeyRequest(name="u"))
    forged = {
        "x-hearth-role": "admin", "X-Hearth-Key-Id": "0" * 12, "x-hearth-anything": "1", "forwarded": "for=1.2.3.4",
        "x-forwarded-for": "1.2.3.4", "x-forwarded-host": "evil", "x-forwarded-proto": "https",
    }  # fmt: skip
    with gateway(redis) as (_, http):
        told = http.get("/api/v1/datasets/", headers=bearer(user) | forged).json()["headers"]
        assert http.get("/api/v1/keys/", headers=bearer(user) | forged).status_code == 403
    assert (told["x-hearth-role"], told["x-hearth-key-id"]) == ("user", user.id)
    assert not {name for name in told if name.startswith(("x-forwarded", "forwarded", "x-hearth-any"))}


def test_a_request_id_cannot_carry_a_line_into_headers_or_logs(served: tuple[httpx.Client, StandIn]) -> None:
    http, _ = served
    odd = {"x-request-id": "a b\tc<script>"}
    answered = http.post(CHAT, content=asking("LLM"), headers=odd).headers["x-request-id"]
    passed_on = http.post("/api/v1/jobs/", headers=odd).json()["headers"]["x-request-id"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", given) for given in (answered, passed_on))


def test_pages_of_other_sites_and_rebound_names_cannot_use_an_open_gateway(
    served: tuple[httpx.Client, StandIn],
) -> None:
    http, engine = served
    port = http.base_url.port
    for path in (CHAT, "/api/v1/models/add/?model_id=a/b"):
        for foreign in ({"origin": "https://evil.example"}, {"origin": "null"}, {"host": f"evil.example:{port}"}):
            reply = http.post(path, content=asking("LLM"), headers=foreign)
            assert reply.status_code == 403, foreign
    assert engine.got == []
    for own in ({"origin": f"http://127.0.0.1:{port}"}, {"host": f"localhost:{port}"}, {"host": f"[::1]:{port}"}):
        assert http.post(CHAT, content=asking("LLM"), headers=own).status_code == 200


def test_guessing_keys_tells_nothing_and_leaves_no_secret_in_the_log(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    key = KeyStore(redis).create(KeyRequest(name="k", role=Role.ADMIN))
    with gateway(redis) as (_, http):
        wrong_secret = f"hearth_{key.id}_{'0' * 64}"
        unknown_id = f"hearth_{'0' * 12}_{'0' * 64}"
        answers = {
            http.get("/api/v1/jobs/", headers={"authorization": f"Bearer {guess}"}).text
            for guess in (wrong_secret, unknown_id, "guess")
        }
        said = {answer for answer in answers if "not valid" in answer}
        assert len(said) == 1  # the same for a known and an unknown id
    assert wrong_secret not in caplog.text and key.secret not in caplog.text
    assert "without a valid API key" in caplog.text
