"""A key with the role `user` sees and changes the datasets that it uploaded, and no others."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from minio import Minio
from redis import Redis

ROW = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}) + "\n"
ONE, OTHER = ({"x-hearth-role": "user", "x-hearth-key-id": key_id} for key_id in ("one", "other"))
ADMIN = {"x-hearth-role": "admin", "x-hearth-key-id": "boss"}
NOBODY: dict[str, str] = {}  # no key was needed


@pytest.fixture
def client(s3: Minio, redis: Redis) -> Iterator[TestClient]:
    with TestClient(dataset_app(s3, redis, DatasetSettings())) as client:
        yield client


def upload(client: TestClient, headers: dict[str, str]) -> str:
    reply = client.post("/v1/datasets/upload", files={"file": ("train.jsonl", ROW)}, headers=headers)
    assert reply.json()["owner"] == headers.get("x-hearth-key-id")
    return str(reply.json()["id"])


def seen(client: TestClient, headers: dict[str, str]) -> set[str]:
    return {dataset["id"] for dataset in client.get("/v1/datasets", headers=headers).json()}


def test_everybody_sees_their_own_and_admins_see_all(client: TestClient) -> None:
    mine, theirs, nobodys = upload(client, ONE), upload(client, OTHER), upload(client, NOBODY)
    assert seen(client, ONE) == {mine}
    assert seen(client, OTHER) == {theirs}
    assert seen(client, ADMIN) == seen(client, NOBODY) == {mine, theirs, nobodys}


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/metadata"), ("DELETE", "")])
def test_another_keys_dataset_is_as_if_it_were_not_there(client: TestClient, method: str, rest: str) -> None:
    mine = upload(client, ONE)
    refused = client.request(method, f"/v1/datasets/{mine}{rest}", headers=OTHER)
    assert refused.status_code == 404
    missing = client.request(method, f"/v1/datasets/{mine[::-1]}{rest}", headers=OTHER)
    assert refused.text.replace(mine, "") == missing.text.replace(mine[::-1], "")
    assert client.request(method, f"/v1/datasets/{mine}{rest}", headers=ONE).is_success


def test_an_unknown_role_gets_the_least(client: TestClient) -> None:
    upload(client, NOBODY)
    assert seen(client, {"x-hearth-role": "root", "x-hearth-key-id": "one"}) == set()
