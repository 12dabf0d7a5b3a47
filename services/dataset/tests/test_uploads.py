"""Uploads in parts over a real S3 server: what breaks is sent again, and only that."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hearth_dataset.app import dataset_app
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.sweep import sweep
from hearth_storage.config import S3Settings
from hearth_storage.objects import DATASETS, connect, public_signer
from minio import Minio
from redis import Redis
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port, running

FILE = b"".join(json.dumps({"text": f"row {number} " + "x" * 1_000}).encode() + b"\n" for number in range(3_000))
PART = 2**20
PARTS = [FILE[start : start + PART] for start in range(0, len(FILE), PART)]


@pytest.fixture
def client(s3: Minio, redis: Redis) -> Iterator[TestClient]:
    with TestClient(dataset_app(s3, redis, DatasetSettings(dataset_max_part_bytes=2 * PART))) as client:
        yield client


def objects(s3: Minio) -> list[str]:
    """All but the log and what belongs to it."""
    found = [str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)]
    return [name for name in found if not name.startswith("catalogue/")]


def begin(client: httpx.Client) -> str:
    reply = client.post("/v1/datasets/uploads/", json={"name": "big.jsonl", "description": "in parts"})
    assert reply.status_code == 201
    assert reply.json()["parts"] == []
    return f"/v1/datasets/uploads/{reply.json()['id']}"


def test_parts_sent_in_any_order_become_the_file(client: TestClient, s3: Minio) -> None:
    url = begin(client)
    for number, part in reversed(list(enumerate(PARTS, start=1))):
        reply = client.put(f"{url}/parts/{number}", content=part)
        assert reply.json() == {"number": number, "bytes": len(part)}
    made = client.post(f"{url}/complete", json={"parts": len(PARTS)}).json()
    assert (made["name"], made["description"], made["rows"], made["bytes"]) == (
        "big.jsonl",
        "in parts",
        3_000,
        len(FILE),
    )
    assert client.get(f"/v1/datasets/{made['id']}").content == FILE
    assert not [name for name in objects(s3) if "/parts/" in name]
    assert client.get(url).json()["dataset_id"] == made["id"]
    assert client.post(f"{url}/complete", json={"parts": len(PARTS)}).json() == made  # the first answer may be lost
    assert client.put(f"{url}/parts/1", content=b"x").status_code == 409


def test_missing_parts_are_named(client: TestClient) -> None:
    url = begin(client)
    for number in (2, 5):
        client.put(f"{url}/parts/{number}", content=b"x")
    reply = client.post(f"{url}/complete", json={"parts": 4})
    assert reply.status_code == 409
    assert "1, 3, 4 are missing, and 5 are there" in reply.json()["detail"]


def test_a_bad_line_is_told_and_its_part_can_be_replaced(client: TestClient) -> None:
    url = begin(client)
    client.put(f"{url}/parts/1", content=PARTS[0])
    client.put(f"{url}/parts/2", content=b"bad\n")
    refusal = client.post(f"{url}/complete", json={"parts": 2})
    assert refusal.status_code == 422
    assert refusal.json()["errors"]
    client.put(f"{url}/parts/2", content=FILE[PART:])
    assert client.post(f"{url}/complete", json={"parts": 2}).json()["rows"] == 3_000


@pytest.mark.parametrize(
    ("number", "content", "status"),
    [(0, b"x", 422), (10_001, b"x", 422), (1, b"", 400), (1, b"x" * (2 * PART + 1), 413)],
)
def test_a_part_that_cannot_be_is_refused_and_leaves_nothing(
    client: TestClient, number: int, content: bytes, status: int
) -> None:
    url = begin(client)
    assert client.put(f"{url}/parts/{number}", content=content).status_code == status
    assert client.get(url).json()["parts"] == []


def test_an_upload_that_is_given_up_leaves_nothing(client: TestClient, s3: Minio) -> None:
    url = begin(client)
    client.put(f"{url}/parts/1", content=PARTS[0])
    assert client.delete(url).status_code == 204
    assert objects(s3) == []
    for reply in (client.get(url), client.delete(url), client.put(f"{url}/parts/1", content=b"x")):
        assert reply.status_code == 404


def test_another_keys_upload_is_as_if_it_were_not_there(client: TestClient) -> None:
    one, other = ({"x-hearth-role": "user", "x-hearth-key-id": key_id} for key_id in ("one", "other"))
    reply = client.post("/v1/datasets/uploads", json={"name": "x"}, headers=one)
    url = f"/v1/datasets/uploads/{reply.json()['id']}"
    assert client.get(url, headers=other).status_code == 404
    assert client.put(f"{url}/parts/1", content=b"x", headers=other).status_code == 404
    assert client.get(url, headers=one).status_code == 200


def test_an_abandoned_upload_is_swept_away_and_a_live_one_is_not(client: TestClient, s3: Minio) -> None:
    url = begin(client)
    client.put(f"{url}/parts/1", content=PARTS[0])
    sweep(Catalogue(s3), upload_age=timedelta(hours=1))
    assert len(client.get(url).json()["parts"]) == 1
    sweep(Catalogue(s3), upload_age=-timedelta(hours=1))
    assert objects(s3) == []


def test_a_part_can_go_straight_to_s3_where_clients_reach_it(s3_settings: S3Settings, s3: Minio, redis: Redis) -> None:
    public = s3_settings.model_copy(update={"s3_public_endpoint": s3_settings.s3_endpoint, "s3_public_secure": False})
    with TestClient(dataset_app(s3, redis, DatasetSettings(), public_signer(public))) as client:
        url = begin(client)
        for number, part in enumerate(PARTS, start=1):
            signed = client.get(f"{url}/parts/{number}/url").json()["url"]
            assert httpx.put(signed, content=part).status_code == 200
        assert [part["bytes"] for part in client.get(url).json()["parts"]] == [len(part) for part in PARTS]
        made = client.post(f"{url}/complete", json={"parts": len(PARTS)}).json()
        assert client.get(f"/v1/datasets/{made['id']}").content == FILE


def test_where_clients_do_not_reach_s3_they_are_told_to_send_the_part_here(client: TestClient) -> None:
    reply = client.get(f"{begin(client)}/parts/1/url")
    assert reply.status_code == 409
    assert "PUT the part" in reply.json()["detail"]


SENDER = """
import sys, httpx
url, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = open(path, "rb").read()
def slowly(part):
    yield part[: len(part) // 2]
    print("half", flush=True)
    sys.stdin.readline()
    yield part[len(part) // 2 :]
httpx.put(f"{url}/parts/1", content=data[:size], timeout=60).raise_for_status()
httpx.put(f"{url}/parts/2", content=slowly(data[size : 2 * size]), timeout=60)
"""


def test_a_client_killed_in_mid_part_goes_on_with_what_has_not_arrived(
    s3: Minio, redis: Redis, s3_settings: S3Settings, tmp_path: Path
) -> None:
    port = free_port()
    app = dataset_app(connect(s3_settings), redis, DatasetSettings())
    path = tmp_path / "big.jsonl"
    path.write_bytes(FILE)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None)
    with running(config), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        url = begin(client)
        command = [sys.executable, "-c", SENDER, f"http://127.0.0.1:{port}{url}", str(path), str(PART)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == b"half\n"
            sender.send_signal(signal.SIGKILL)
        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.05), reraise=True):
            with attempt:
                assert s3._list_multipart_uploads(DATASETS).uploads == []
        arrived = {part["number"] for part in client.get(url).json()["parts"]}
        assert arrived == {1}
        for number, part in enumerate(PARTS, start=1):
            if number not in arrived:
                client.put(f"{url}/parts/{number}", content=part).raise_for_status()
        made = client.post(f"{url}/complete", json={"parts": len(PARTS)}).json()
        assert made["bytes"] == len(FILE)
        assert client.get(f"/v1/datasets/{made['id']}").content == FILE
