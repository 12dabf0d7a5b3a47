"""The service over a real S3 server: what is stored is whole, and what is refused leaves nothing."""

import json
import socket
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hearth_dataset import store
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_storage.config import S3Settings
from hearth_storage.objects import DATASETS, connect
from minio import Minio
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port, running

ROW = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}) + "\n"


@pytest.fixture
def client(s3: Minio) -> Iterator[TestClient]:
    with TestClient(dataset_app(s3, DatasetSettings(dataset_max_bytes=50 * 2**20))) as client:
        yield client


def objects(s3: Minio) -> list[str]:
    return [str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)]


def upload(client: TestClient, text: str | bytes, name: str = "train.jsonl", **params: str) -> httpx.Response:
    return client.post("/v1/datasets/upload/", params=params, files={"file": (name, text)})


def test_an_upload_is_listed_and_comes_back_byte_for_byte(client: TestClient) -> None:
    text = (ROW * 5).encode() + b"\r\n"
    made = upload(client, text, description="My Description").json()
    assert list(made)[:4] == ["id", "name", "s3_path", "description"]
    assert made["s3_path"] == f"{made['id']}/metadata.json"
    assert (made["rows"], made["turns"], made["bytes"]) == (5, 10, len(text))
    assert client.get("/v1/datasets/").json() == [made]
    reply = client.get(f"/v1/datasets/{made['id']}/")
    assert reply.content == text
    assert reply.headers["content-length"] == str(len(text))
    assert client.get(f"/v1/datasets/{made['id']}", headers={"if-none-match": reply.headers["etag"]}).status_code == 304


def test_without_a_description_it_is_null(client: TestClient) -> None:
    assert upload(client, ROW).json()["description"] is None


def test_a_name_from_a_stranger_cannot_split_the_header(client: TestClient) -> None:
    made = upload(client, ROW, name="../Беседы.jsonl").json()
    assert made["name"] == "Беседы.jsonl"
    header = client.get(f"/v1/datasets/{made['id']}").headers["content-disposition"]
    assert header == f"attachment; filename*=UTF-8''{quote('Беседы.jsonl')}"


def test_a_bad_line_is_a_422_and_leaves_nothing(client: TestClient, s3: Minio) -> None:
    reply = upload(client, ROW + "{nonsense\n" + ROW)
    assert reply.status_code == 422
    body = reply.json()
    assert body["errors"][0]["loc"] == ["line", 2]
    assert "nothing was stored" in body["detail"]
    assert objects(s3) == []


def test_a_fault_after_parts_were_sent_leaves_nothing_either(client: TestClient, s3: Minio) -> None:
    big = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}, {"role": "assistant", "content": "ho"}]})
    reply = upload(client, (big + "\n") * 360 + "bad")
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == ["line", 361]
    assert objects(s3) == []


def test_too_large_a_file_is_a_413_and_leaves_nothing(s3: Minio) -> None:
    with TestClient(dataset_app(s3, DatasetSettings(dataset_max_bytes=100))) as client:
        assert upload(client, ROW * 10).status_code == 413
    assert objects(s3) == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 422),
        (b"--b\r\nnonsense", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n", f"multipart/form-data; boundary={'b' * 1_000}", 400),
        (b"--b\r\n", "multipart/form-data; boundary=", 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
        ),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n{"mess', "multipart/form-data; boundary=b", 400),
    ],
)
def test_a_body_that_is_no_upload_is_refused(
    client: TestClient, s3: Minio, body: bytes, kind: str, status: int
) -> None:
    reply = client.post("/v1/datasets/upload", content=body, headers={"content-type": kind})
    assert reply.status_code == status, reply.text
    assert objects(s3) == []


def test_rows_without_their_record_are_not_listed(client: TestClient, s3: Minio) -> None:
    made = upload(client, ROW).json()
    s3.remove_object(bucket_name=DATASETS, object_name=made["s3_path"])
    assert client.get("/v1/datasets").json() == []
    assert client.get(f"/v1/datasets/{made['id']}").status_code == 404


def test_a_deleted_dataset_is_gone(client: TestClient, s3: Minio) -> None:
    made = upload(client, ROW).json()
    assert client.delete(f"/v1/datasets/{made['id']}/").status_code == 204
    assert client.get(f"/v1/datasets/{made['id']}").status_code == 404
    assert objects(s3) == []


@pytest.mark.parametrize("dataset_id", ["nothing", "..", "01be6d68-f790-434b-aa6d-5bd492aef202", "%2e%2e%2fx"])
def test_an_unknown_id_is_a_404(client: TestClient, dataset_id: str) -> None:
    assert client.get(f"/v1/datasets/{dataset_id}/metadata").status_code == 404


def test_a_client_that_leaves_in_mid_upload_leaves_nothing(s3: Minio, s3_settings: S3Settings) -> None:
    port = free_port()
    app = dataset_app(connect(s3_settings), DatasetSettings())
    with running(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None)):
        head = (
            "POST /v1/datasets/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            'Content-Length: 90000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        )
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(head.encode() + ROW.encode() * 400_000)
        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.05), reraise=True):
            with attempt:
                assert objects(s3) == []
        assert httpx.get(f"http://127.0.0.1:{port}/v1/datasets").json() == []


def test_the_sweep_leaves_young_uploads_alone_and_takes_old_ones(
    s3: Minio, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = upload(client, ROW).json()
    s3.remove_object(bucket_name=DATASETS, object_name=made["s3_path"])
    kept = upload(client, ROW).json()
    store.sweep(s3)
    assert len(objects(s3)) == 3
    monkeypatch.setattr(store, "SWEEP_AFTER", -store.SWEEP_AFTER)
    store.sweep(s3)
    assert sorted(objects(s3)) == [f"{kept['id']}/data.jsonl", kept["s3_path"]]
