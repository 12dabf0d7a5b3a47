"""The door on a running gateway: keys, roles, limits, usage, audit log, pages of other sites, TLS."""

import json
import logging
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
from hearth_access.audit_store import AuditStore
from hearth_access.key_store import KeyStore
from hearth_access.usage_store import UsageStore
from hearth_contracts.access import KeyRequest, Limits, NewKey, Role, UsageRow
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.exposure import NotToBeOpen, check_exposure
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from pydantic import SecretStr
from redis import Redis
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from services.gateway.tests.conftest import Place, StandIn, asking, serving
from tests.support.servers import free_port, running

CHAT = "/v1/chat/completions"


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Management and dataset service in one: says what reached it."""
    request = Request(scope, receive)
    await JSONResponse({"path": scope["path"], "headers": dict(request.headers)})(scope, receive, send)


@contextmanager
def gateway(redis: Redis, **settings: Any) -> Iterator[tuple[Gateway, httpx.Client]]:
    """A gateway with a service behind it."""
    inner, outer = free_port(), free_port()
    url = f"http://127.0.0.1:{inner}"
    made = Gateway(GatewaySettings(management_url=url, dataset_url=url, **settings), redis)
    with (
        running(uvicorn.Config(tell, port=inner, lifespan="off", log_config=None)),
        running(serving(made, outer)),
        httpx.Client(base_url=f"http://127.0.0.1:{outer}", timeout=20) as http,
    ):
        yield made, http


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.secret}"}


@pytest.fixture
def make(redis: Redis) -> Callable[..., NewKey]:
    def make(role: Role = Role.USER, **fields: Any) -> NewKey:
        return KeyStore(redis).create(KeyRequest(name="test", role=role, **fields))

    return make


def test_from_the_first_key_on_every_path_asks_for_one(place: Place, make: Callable[..., NewKey]) -> None:
    engine = place.serve()
    place.report(engine, "LLM")
    assert place.http.post(CHAT, content=asking("LLM")).status_code == 200
    key = make(Role.ADMIN)
    place.eventually(lambda: place.http.post(CHAT, content=asking("LLM")).status_code == 401)
    for path in ("/v1/models", "/api/v1/models/LLM", "/api/v1/models/", "/api/v1/jobs/", "/v1/files", "/metrics"):
        refused = place.http.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="Hearth"')
    assert place.http.post(CHAT, content=asking("LLM"), headers=bearer(key)).status_code == 200
    assert [model["id"] for model in place.http.get("/v1/models", headers=bearer(key)).json()["data"]] == ["LLM"]
    assert place.http.get("/metrics", headers=bearer(key)).status_code == 200
    assert place.http.get("/health/ready").status_code == 200  # whoever supervises it has no key


def test_a_user_infers_and_has_datasets_and_an_admin_has_everything(redis: Redis, make: Callable[..., NewKey]) -> None:
    admin, user = make(Role.ADMIN), make()
    with gateway(redis) as (_, http):
        for method, path, allowed in [
            ("GET", "/api/v1/datasets/", True),
            ("POST", "/api/v1/datasets/upload/", True),
            ("DELETE", "/v1/files/file-1", True),
            ("GET", "/api/v1/models/", True),
            ("GET", "/api/v1/usage/", True),
            ("POST", "/api/v1/models/add/?model_id=a/b", False),
            ("DELETE", "/api/v1/models/a", False),
            ("POST", "/api/v1/deploy/", False),
            ("GET", "/api/v1/jobs/", False),
            ("POST", "/api/v1/finetune/", False),
            ("GET", "/api/v1/keys/", False),
            ("POST", "/api/v1/keys/", False),
            ("GET", "/api/v1/audit/", False),
            ("POST", "/api/v1/usage/", False),
        ]:
            reply = http.request(method, path, headers=bearer(user))
            assert reply.status_code == (200 if allowed else 403), path
            assert http.request(method, path, headers=bearer(admin)).status_code == 200
        told = http.get("/api/v1/datasets/", headers=bearer(user)).json()["headers"]
        assert (told["x-hearth-key-id"], told["x-hearth-role"]) == (user.id, "user")
        assert "authorization" not in told  # a secret goes no further than it must


def test_a_key_with_models_is_shown_and_given_only_those(place: Place, make: Callable[..., NewKey]) -> None:
    engine = place.serve()
    place.report(engine, "LLM", "other")
    key = make(models=("LLM",))
    place.eventually(lambda: not place.gateway.door.open)
    assert [model["id"] for model in place.http.get("/v1/models", headers=bearer(key)).json()["data"]] == ["LLM"]
    assert place.http.get("/v1/models/other", headers=bearer(key)).status_code == 404
    refused = place.http.post(CHAT, content=asking("other"), headers=bearer(key))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")


def test_a_revoked_key_opens_no_gateway_after_a_second(
    redis: Redis, redis_url: str, make: Callable[..., NewKey]
) -> None:
    admin, key = make(Role.ADMIN), make()
    ports = free_port(), free_port()
    with ExitStack() as stack:
        for port in ports:
            env = os.environ | {"HEARTH_REDIS_URL": redis_url, "HEARTH_GATEWAY_PORT": str(port)}
            process = subprocess.Popen([sys.executable, "-m", "hearth_gateway"], env=env, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)

        def codes(by: NewKey) -> list[int]:
            return [httpx.get(f"http://127.0.0.1:{p}/v1/models", headers=bearer(by)).status_code for p in ports]

        def up() -> bool:
            try:
                return codes(key) == [200, 200]
            except httpx.ConnectError:
                return False

        Place.eventually(up, seconds=55)
        KeyStore(redis).revoke(key.id)
        began = time.monotonic()
        Place.eventually(lambda: codes(key) == [401, 401], seconds=1)
        assert time.monotonic() - began < 1
        assert codes(admin) == [200, 200]


def test_gateways_share_a_limit(redis: Redis, make: Callable[..., NewKey]) -> None:
    key = make(limits=Limits(requests_per_minute=30))
    with gateway(redis) as (one, http), gateway(redis) as (_, other_http), ExitStack() as stack:
        engine = StandIn()
        stack.enter_context(running(uvicorn.Config(engine, port=engine.port, lifespan="off", log_config=None)))
        Place(one, http, redis, StandIn).report(engine, "LLM")

        def ask(http: httpx.Client) -> httpx.Response:
            return http.post(CHAT, content=asking("LLM"), headers=bearer(key))

        taken = 0
        while (reply := ask(http)).status_code == 200:
            taken += 1
        assert taken in range(30, 33)  # what fills up again meanwhile
        error = reply.json()["error"]
        assert (reply.status_code, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
        assert int(reply.headers["retry-after"]) in (1, 2)
        assert [reply.headers[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining")] == ["30", "0"]
        Place.eventually(lambda: ask(other_http).status_code == 429)


def test_every_answered_request_is_counted_once_even_if_the_gateway_ends_at_once(
    redis: Redis, make: Callable[..., NewKey]
) -> None:
    key = make()
    today = datetime.now(UTC).date()
    with gateway(redis) as (made, http):
        caller = made.door.admit(f"Bearer {key.secret}".encode())
        for _ in range(7):
            caller.begin("LLM", stream=False).end(prompt_tokens=2, completion_tokens=3)
        assert http.get("/health/live").status_code == 200
    (row,) = UsageStore(redis).read(today, today)
    assert row == UsageRow(
        day=today.isoformat(), key_id=key.id, model="LLM", requests=7, prompt_tokens=14, completion_tokens=21
    )


def test_changes_are_in_the_audit_log_with_who_what_and_outcome(
    redis: Redis, make: Callable[..., NewKey], caplog: pytest.LogCaptureFixture
) -> None:
    admin, user = make(Role.ADMIN), make()
    with gateway(redis) as (_, http), caplog.at_level(logging.INFO, "hearth_gateway.audit"):
        http.post("/api/v1/models/add/?model_id=a/b", headers=bearer(admin) | {"x-request-id": "r-1"})
        http.get("/api/v1/models/", headers=bearer(admin))
        http.post("/api/v1/deploy/", headers=bearer(user))
        http.post("/api/v1/deploy/")  # by nobody: a flood of these must not wash the log away
        Place.eventually(lambda: len(AuditStore(redis).newest(10)) == 2)
    refused, added = AuditStore(redis).newest(10)
    assert (added.key_id, added.method, added.path, added.status) == (
        admin.id, "POST", "/api/v1/models/add/?model_id=a/b", 200,
    )  # fmt: skip
    assert (added.request_id, added.address) == ("r-1", "127.0.0.1")
    assert (refused.key_id, refused.path, refused.status) == (user.id, "/api/v1/deploy/", 403)
    logged = [record.audit for record in caplog.records if record.name == "hearth_gateway.audit"]  # type: ignore[attr-defined]
    assert [entry["path"] for entry in logged] == [added.path, refused.path]
    assert admin.secret not in json.dumps(logged)


PAGE = {"origin": "https://chat.example"}
PREFLIGHT = PAGE | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def test_pages_of_other_sites_may_not_use_it_unless_they_are_named(redis: Redis, make: Callable[..., NewKey]) -> None:
    make(Role.ADMIN)
    for path in (CHAT, "/api/v1/datasets/"):
        with gateway(redis) as (_, http):
            assert "access-control-allow-origin" not in http.options(path, headers=PREFLIGHT).headers
            assert "access-control-allow-origin" not in http.post(path, headers=PAGE).headers
        with gateway(redis, cors_origins="https://chat.example, https://b.example") as (_, http):
            allowed = http.options(path, headers=PREFLIGHT)
            assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE["origin"])
            assert "authorization" in allowed.headers["access-control-allow-headers"]
            assert http.post(path, headers=PAGE).headers["access-control-allow-origin"] == PAGE["origin"]
            other = {"origin": "https://evil.example"}
            assert http.options(path, headers=PREFLIGHT | other).status_code == 400
            assert "access-control-allow-origin" not in http.post(path, headers=other).headers


def test_it_serves_https_with_the_files_it_is_given(redis: Redis, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port = free_port()
    gateway = Gateway(GatewaySettings(tls_cert=cert, tls_key=key), redis)
    with running(serving(gateway, port)), httpx.Client(verify=context) as https:
        assert https.get(f"https://127.0.0.1:{port}/v1/models").json() == {"object": "list", "data": []}
        answer = https.post(f"https://127.0.0.1:{port}{CHAT}", content=asking("LLM"))
        assert answer.json()["error"]["code"] == "model_not_found"
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://127.0.0.1:{port}/v1/models")


def test_beyond_loopback_it_starts_with_a_key_or_when_told(redis: Redis, make: Callable[..., NewKey]) -> None:
    outside = GatewaySettings(gateway_host="0.0.0.0")
    check_exposure(GatewaySettings(gateway_host="::1"), redis)
    check_exposure(GatewaySettings(gateway_host="0.0.0.0", allow_open=True), redis)
    check_exposure(GatewaySettings(gateway_host="0.0.0.0", published_host="127.0.0.1"), redis)
    with pytest.raises(NotToBeOpen, match=r"10\.0\.0\.7 can be reached"):
        check_exposure(GatewaySettings(gateway_host="0.0.0.0", published_host="10.0.0.7"), redis)
    with pytest.raises(NotToBeOpen, match="keys create"):
        check_exposure(outside, redis)
    away = connect(RedisSettings(redis_url=SecretStr("redis://127.0.0.1:1/0")))
    with pytest.raises(NotToBeOpen, match="Redis does not answer"):
        check_exposure(outside, away, patience=0)
    make(Role.ADMIN)
    check_exposure(outside, redis)


@pytest.mark.parametrize(("cert", "key"), [("missing.pem", "missing.pem"), (__file__, None), (None, __file__)])
def test_tls_files_that_cannot_serve_are_said_at_the_start(redis: Redis, cert: str | None, key: str | None) -> None:
    settings = GatewaySettings(tls_cert=Path(cert) if cert else None, tls_key=Path(key) if key else None)
    with pytest.raises(NotToBeOpen, match="HEARTH_TLS_CERT"):
        check_exposure(settings, redis)
