"""The control plane's door and the docs, over a real management and dataset service's stand-ins."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.docs import merge
from redis import Redis

from services.gateway.tests.conftest import Place, serving
from tests.support.servers import free_port, running


@pytest.fixture
def http(redis: Redis) -> Iterator[httpx.Client]:
    """A gateway whose services are one small app that tells what reached it."""
    service = FastAPI(title="Hearth management")

    @service.api_route("/v1/{rest:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
    async def tell(rest: str, request: Request) -> dict[str, Any]:
        size = 0
        async for piece in request.stream():
            size += len(piece)
        return {
            "path": request.url.path,
            "query": request.url.query,
            "bytes": size,
            "id": request.headers["x-request-id"],
            "secret": request.headers.get("authorization"),
        }

    @service.get("/v1/datasets/big")
    def big() -> StreamingResponse:
        return StreamingResponse((b"x" * 65_536 for _ in range(64)), headers={"ETag": '"e"'})

    service.router.routes.insert(0, service.router.routes.pop())
    inner, outer = free_port(), free_port()
    url = f"http://127.0.0.1:{inner}"
    gateway = Gateway(GatewaySettings(management_url=url, dataset_url=url), redis)
    with (
        running(uvicorn.Config(service, port=inner, log_config=None)),
        running(serving(gateway, outer)),
        httpx.Client(base_url=f"http://127.0.0.1:{outer}") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("method", "path", "inner"),
    [
        ("GET", "/api/v1/models/", "/v1/models"),
        ("POST", "/api/v1/models/add/?model_id=a%2Fb", "/v1/models/add"),
        ("POST", "/api/v1/deploy/interrupt", "/v1/deploy/interrupt"),
        ("GET", "/api/v1/jobs/1/status/", "/v1/jobs/1/status"),
        ("DELETE", "/api/v1/models/org/name", "/v1/models/org/name"),
        ("POST", "/api/v1/finetune/", "/v1/finetune"),
        ("POST", "/v1/files", "/v1/files"),
        ("DELETE", "/api/v1/files/file-1/", "/v1/files/file-1"),
        ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", "/v1/fine_tuning/jobs/ftjob-1/cancel"),
    ],
)
def test_a_path_goes_to_its_owner_with_body_query_and_id(
    http: httpx.Client, method: str, path: str, inner: str
) -> None:
    reply = http.request(method, path, content=b"12345", headers={"x-request-id": "r-1"})
    assert reply.status_code == 200
    told = reply.json()
    assert (told["path"], told["bytes"], told["id"]) == (inner, 5, "r-1")
    assert reply.headers["x-request-id"] == "r-1"
    assert told["query"] == path.partition("?")[2]


def test_a_refusal_of_the_gateways_own_has_the_requests_id_too(http: httpx.Client) -> None:
    reply = http.get("/api/v1/nowhere/", headers={"x-request-id": "r-2"})
    assert (reply.status_code, reply.headers["x-request-id"]) == (404, "r-2")


def test_an_upload_without_a_length_passes_whole(http: httpx.Client) -> None:
    reply = http.post("/api/v1/datasets/upload/", content=(b"x" * 65_536 for _ in range(64)))
    assert reply.json()["bytes"] == 64 * 65_536


def test_a_download_passes_with_its_headers(http: httpx.Client) -> None:
    reply = http.get("/api/v1/datasets/big/")
    assert (len(reply.content), reply.headers["etag"]) == (64 * 65_536, '"e"')


@pytest.mark.parametrize("path", ["/api/v1/nothing/", "/api/v1/", "/nothing", "/api/v1/models/%2e%2e/%2e%2e/x"])
def test_an_unknown_path_is_a_problem_document(http: httpx.Client, path: str) -> None:
    reply = http.post(path)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_under_the_openai_prefix_an_unknown_path_gets_openais_error(http: httpx.Client) -> None:
    reply = http.get("/v1/deploy")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_a_service_that_is_away_is_a_503_with_retry_after(place: Place) -> None:
    reply = place.http.get("/api/v1/jobs/")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.headers["content-type"] == "application/problem+json"


def test_a_service_that_is_away_is_openais_error_under_openais_routes(place: Place) -> None:
    for path in ("/v1/files", "/api/v1/fine_tuning/jobs/"):
        reply = place.http.get(path)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
        assert reply.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("given", "root"),
    [("/llm", "/llm"), ("/a/b-c/", "/a/b-c"), ("llm", ""), ('/"><script>', ""), ("//elsewhere.example", ""), ("/", "")],
)
def test_behind_a_prefix_the_docs_load_from_under_it_and_only_a_harmless_one_is_taken(
    http: httpx.Client, given: str, root: str
) -> None:
    headers = {"x-forwarded-prefix": given}
    page = http.get("/api/docs/", headers=headers).text
    loaded = re.findall(r'(?:src|href|url)[=:]\s*["\']([^"\']+)', page)
    assert loaded
    assert all(url.startswith(f"{root}/api/") for url in loaded)
    assert http.get("/api/openapi.json", headers=headers).json()["servers"] == [{"url": root or "/"}]


def test_a_configured_root_path_is_taken_off_where_the_proxy_leaves_it_on(redis: Redis) -> None:
    port, dead = free_port(), f"http://127.0.0.1:{free_port()}"
    gateway = Gateway(GatewaySettings(management_url=dead, dataset_url=dead, root_path="/llm"), redis)
    with running(serving(gateway, port)):
        for path in ("/llm/v1/models", "/v1/models"):
            assert httpx.get(f"http://127.0.0.1:{port}{path}").json()["object"] == "list"
        assert "/llm/api/openapi.json" in httpx.get(f"http://127.0.0.1:{port}/llm/api/docs/").text


def test_the_docs_page_and_all_it_loads_come_from_here(http: httpx.Client) -> None:
    reply = http.get("/api/docs/")
    page = reply.text
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href|url)[=:]\s*["\']([^"\']+)', page)
    assert loaded
    for url in loaded:
        assert url.startswith("/api/"), url
        assert http.get(url).status_code == 200


def test_what_is_away_is_named_in_the_document(place: Place) -> None:
    document = place.http.get("/api/openapi.json").json()
    assert "management, dataset" in document["info"]["description"]
    assert "/api/v1/chat/completions/" in document["paths"]


def test_schemas_of_one_name_that_differ_are_kept_apart() -> None:
    def document(title: str, schema: dict[str, Any]) -> dict[str, Any]:
        reference = {"$ref": "#/components/schemas/Body"}
        return {
            "info": {"title": title},
            "paths": {f"/v1/{title[-1]}": {"get": {"x": reference}}},
            "components": {"schemas": {"Body": schema}},
        }

    merged = merge([document("Hearth a", {"type": "string"}), document("Hearth b", {"type": "integer"})], [])
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(merged))
    assert sorted(name for name in references if "Body" in name) == ["BBody", "Body"]
    assert set(references) <= set(merged["components"]["schemas"])
