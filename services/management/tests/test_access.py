"""API keys, usage and audit log over the API."""

from datetime import timedelta

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_access.audit_store import AuditStore
from hearth_access.usage_store import UsageOf, UsageStore
from hearth_contracts.access import AuditEntry
from hearth_contracts.base import now
from hearth_management.services import Services

USER = {"x-hearth-role": "user", "x-hearth-key-id": "mine"}


def make(client: TestClient, name: str = "k", role: str = "admin", **fields: object) -> httpx.Response:
    return client.post("/v1/keys/", json={"name": name, "role": role, **fields})


def test_a_key_is_made_listed_changed_and_revoked(client: TestClient) -> None:
    made = make(client, limits={"requests_per_minute": 5}, models=["LLM"])
    assert made.status_code == 201
    key = made.json()
    secret = key.pop("secret")
    assert secret.startswith(f"hearth_{key['id']}_")
    other = make(client, "other").json()
    listed = client.get("/v1/keys")
    assert [each["id"] for each in listed.json()] == [other["id"], key["id"]]
    assert listed.json()[1] == key
    assert "secret" not in listed.text and "sha256" not in listed.text
    changed = client.patch(f"/v1/keys/{key['id']}", json={"limits": {"tokens_per_minute": 7}, "models": None}).json()
    assert (changed["limits"]["requests_per_minute"], changed["limits"]["tokens_per_minute"]) == (None, 7)
    assert changed["models"] is None
    assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
    assert client.get("/v1/keys").json()[1]["revoked_at"] is not None
    assert client.patch(f"/v1/keys/{key['id']}", json={"name": "x"}).status_code == 409


def test_nobody_locks_themselves_out(client: TestClient) -> None:
    assert make(client, role="user").status_code == 409
    key_id = make(client).json()["id"]
    assert make(client, role="user").status_code == 201
    assert "last key" in client.delete(f"/v1/keys/{key_id}").json()["detail"]
    past = (now() - timedelta(seconds=1)).isoformat()
    assert client.patch(f"/v1/keys/{key_id}", json={"expires_at": past}).status_code == 409
    make(client, "another")
    assert client.delete(f"/v1/keys/{key_id}").status_code == 204


@pytest.mark.parametrize(
    "fields",
    [
        {"limits": {"requests_per_minute": 0}},
        {"role": "root"},
        {"name": ""},
        {"expires_at": "soon"},
        {"expires_at": 0},
        {"unknown": 1},
    ],
)
def test_what_makes_no_sense_is_a_422(client: TestClient, fields: dict[str, object]) -> None:
    reply = client.post("/v1/keys", json={"name": "k", "role": "admin", **fields})
    assert reply.status_code == 422
    assert client.get("/v1/keys").json() == []


@pytest.mark.parametrize("key_id", ["nothing", "..", "%2e%2e", "0" * 12])
def test_a_key_that_is_not_there_is_a_404(client: TestClient, key_id: str) -> None:
    assert client.delete(f"/v1/keys/{key_id}").status_code in (404, 405)


def test_usage_is_filtered_and_a_user_sees_its_own(client: TestClient, services: Services) -> None:
    today = now().date()
    long_ago = today - timedelta(days=100)
    counts = {
        UsageOf(today.isoformat(), "mine", "LLM"): [1, 2, 3, 0],
        UsageOf(today.isoformat(), "other", "LLM"): [4, 0, 0, 0],
        UsageOf(long_ago.isoformat(), "mine", "LLM"): [9, 0, 0, 0],
    }
    UsageStore(services.redis).add("gateway", 1, counts)
    assert [row["requests"] for row in client.get("/v1/usage").json()] == [1, 4]
    (row,) = client.get("/v1/usage", headers=USER).json()
    assert (row["key_id"], row["prompt_tokens"], row["completion_tokens"]) == ("mine", 2, 3)
    assert client.get("/v1/usage", params={"key": "other"}, headers=USER).json() == []
    assert [row["requests"] for row in client.get("/v1/usage", params={"key": "other"}).json()] == [4]
    span = {"from": long_ago.isoformat(), "to": today.isoformat(), "key": "mine", "model": "LLM"}
    assert [row["requests"] for row in client.get("/v1/usage", params=span).json()] == [1, 9]


@pytest.mark.parametrize("span", [{"from": "2026-02-02", "to": "2026-02-01"}, {"from": "1000-01-01"}, {"to": "x"}])
def test_days_that_make_no_span_are_a_422(client: TestClient, span: dict[str, str]) -> None:
    assert client.get("/v1/usage", params=span).status_code == 422
    assert client.get("/v1/usage", params={"to": "0"}).status_code == 422  # a number is no day


def test_the_audit_log_is_read_newest_first(client: TestClient, services: Services) -> None:
    entries = [
        AuditEntry(
            at=now(), key_id=key_id, key_name="n", method="POST", path="/p", status=200, request_id="r", address="a"
        )
        for key_id in ("one", "two", "one")
    ]
    AuditStore(services.redis).append(entries)
    assert client.get("/v1/audit").json() == [entry.model_dump(mode="json") for entry in reversed(entries)]
    assert len(client.get("/v1/audit", params={"key": "one", "limit": 1}).json()) == 1
