"""Every path answers with and without its last slash, whatever the method: the same, no redirect, the body not lost."""

import re
from typing import Any

import httpx
import pytest

from tests.conftest import Running

pytestmark = pytest.mark.timeout(600)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NOBODY = "00000000-0000-0000-0000-000000000000"
BODIED = ("POST", "PUT", "PATCH")
# Done for real by one request, so the two forms cannot be compared by sending both. test_reference.py sends them.
ONCE = {("POST", "deploy/interrupt"), ("POST", "finetune/interrupt")}


def paths(http: httpx.Client) -> list[str]:
    """Every path of the document, with ids of nothing, without its last slash."""
    document = http.get("/api/openapi.json").json()["paths"]
    return sorted({re.sub(r"\{\w+\}", NOBODY, path).rstrip("/") for path in document})


def kept(reply: httpx.Response) -> tuple[int, str | None, str | None, Any]:
    """What must be the same; times, and what is measured anew for each request, left out."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+|\"(progress|eta_seconds|free_bytes)\":[^,}]+", "", reply.text)
    return reply.status_code, reply.headers.get("content-type"), reply.headers.get("allow"), text.replace('/"', '"')


def test_each_path_and_method_answers_the_same_with_and_without_it(platform: Running) -> None:
    found = paths(platform.http)
    assert len(found) > 20
    differing = []
    for path in found:
        for method in METHODS:
            below = path.removeprefix("/api/v1/")
            if (method, below) in ONCE or (method == "GET" and below == "models"):
                continue
            # A body that no route takes: refused with its own words, so a lost one would show.
            more: dict[str, Any] = {"json": {"no such field": 1}} if method in BODIED else {}
            with_it = platform.http.request(method, f"{path}/", **more)
            without = platform.http.request(method, path, **more)
            if with_it.is_redirect or kept(with_it) != kept(without):
                differing.append((method, path, with_it.status_code, with_it.text[:200], without.text[:200]))
    assert differing == []


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_openais_routes_answer_under_both_prefixes(platform: Running, prefix: str, slash: str) -> None:
    for route, body in {
        "completions": {"model": "nothing", "prompt": "x"},
        "chat/completions": {"model": "nothing", "messages": []},
        "embeddings": {"model": "nothing", "input": "x"},
        "rerank": {"model": "nothing", "query": "x", "documents": []},
    }.items():
        reply = platform.http.post(f"{prefix}/{route}{slash}", json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found"), route
    for route in ("files", "fine_tuning/jobs"):
        assert platform.http.get(f"{prefix}/{route}{slash}").json()["object"] == "list"


def test_with_its_slash_models_is_the_references_list_and_without_it_openais(platform: Running) -> None:
    assert isinstance(platform.http.get("/api/v1/models/").json(), list)
    for path in ("/api/v1/models", "/v1/models", "/v1/models/"):
        assert platform.http.get(path).json()["object"] == "list"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_body_arrives_whole(platform: Running, slash: str) -> None:
    asked = {"name": "x", "model_id": "acme/nothing-here", "dataset_id": NOBODY}
    reply = platform.http.post(f"/api/v1/finetune{slash}", json=asked)
    assert reply.status_code == 404
    assert "acme/nothing-here" in reply.json()["detail"]
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    reply = platform.http.post(f"/api/v1/datasets/upload{slash}", files={"file": ("x.jsonl", row * 1000)})
    assert (reply.status_code, reply.json()["rows"]) == (200, 1000)
    assert platform.http.delete(f"/api/v1/datasets/{reply.json()['id']}{slash}").status_code == 204
