"""The service over a real S3 server: what is stored is whole, and what is refused leaves nothing."""

import gzip
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from backports import zstd
from fastapi.testclient import TestClient
from hearth_contracts.base import now
from hearth_contracts.finetune import Finetune, Hyperparameters
from hearth_contracts.jobs import Job, JobKind
from hearth_contracts.names import new_id
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.store import JobStore
from hearth_storage.config import S3Settings
from hearth_storage.objects import DATASETS, connect
from minio import Minio
from redis import Redis
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port, running

ROW = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}) + "\n"


@pytest.fixture
def client(s3: Minio, redis: Redis) -> Iterator[TestClient]:
    with TestClient(dataset_app(s3, redis, DatasetSettings(dataset_max_bytes=50 * 2**20))) as client:
        yield client


def objects(s3: Minio) -> list[str]:
    """All but the log and what belongs to it."""
    found = [str(entry.object_name) for entry in s3.list_objects(bucket_name=DATASETS, recursive=True)]
    return [name for name in found if not name.startswith("catalogue/")]


def upload(client: TestClient, text: str | bytes, name: str = "train.jsonl", **params: str) -> httpx.Response:
    return client.post("/v1/datasets/upload/", params=params, files={"file": (name, text)})


def refused(reply: httpx.Response, status: int, *words: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in reply.json()["detail"]


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


def test_too_large_a_file_is_a_413_and_leaves_nothing(s3: Minio, redis: Redis) -> None:
    with TestClient(dataset_app(s3, redis, DatasetSettings(dataset_max_bytes=100))) as client:
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


@pytest.mark.parametrize(
    ("headers", "status", "part"),
    [
        ({"range": "bytes=0-9"}, 206, slice(0, 10)),
        ({"range": "bytes=90-"}, 206, slice(90, None)),
        ({"range": "bytes=-7"}, 206, slice(-7, None)),
        ({"range": "bytes=5-100000"}, 206, slice(5, None)),
        ({"range": "bytes=0-1,5-6"}, 200, slice(None)),
        ({"range": "bytes=9-5"}, 200, slice(None)),
        ({"range": "lines=1-2"}, 200, slice(None)),
        ({"range": "bytes=0-9", "if-range": '"another"'}, 200, slice(None)),
    ],
)
def test_a_part_can_be_fetched(client: TestClient, headers: dict[str, str], status: int, part: slice) -> None:
    body = (ROW * 2).encode()
    made = upload(client, body).json()
    reply = client.get(f"/v1/datasets/{made['id']}", headers=headers)
    assert (reply.status_code, reply.content) == (status, body[part])
    assert reply.headers["content-length"] == str(len(body[part]))
    if status == 206:
        start = part.indices(len(body))[0]
        assert reply.headers["content-range"] == f"bytes {start}-{start + len(body[part]) - 1}/{len(body)}"


def test_a_broken_download_goes_on_where_it_stopped_if_the_file_is_the_same(client: TestClient) -> None:
    made = upload(client, ROW).json()
    url = f"/v1/datasets/{made['id']}"
    etag = client.get(url).headers["etag"]
    assert client.get(url, headers={"range": "bytes=20-", "if-range": etag}).content == ROW.encode()[20:]
    assert client.get(url, headers={"if-none-match": f'"x", W/{etag}'}).status_code == 304
    refused(client.get(url, headers={"range": f"bytes={len(ROW)}-"}), 416, f"{len(ROW)} bytes")


def test_a_preview_shows_rows_as_they_are_understood_page_by_page(client: TestClient) -> None:
    pairs = [{"prompt": f"q{number}", "chosen": "good", "rejected": "bad"} for number in range(5)]
    made = upload(client, "\ufeff" + "\n\n".join(map(json.dumps, pairs))).json()
    url = f"/v1/datasets/{made['id']}/preview"
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(3):
        page = client.get(url, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += page["rows"]
        cursor = page["next"]
    assert cursor is None
    assert [row["line"] for row in seen] == [1, 3, 5, 7, 9]
    assert seen[4] == {
        "line": 9,
        "prompt": [{"role": "user", "content": "q4"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        "tools": None,
    }


@pytest.mark.parametrize("cursor", ["x", "1-3", "-1--1", "1-99999999999999999999"])
def test_a_cursor_that_no_page_gave_is_refused(client: TestClient, cursor: str) -> None:
    made = upload(client, ROW).json()
    refused(client.get(f"/v1/datasets/{made['id']}/preview", params={"cursor": cursor}), 422, "cursor")


def test_a_preview_of_large_rows_is_cut_into_smaller_pages(client: TestClient) -> None:
    made = upload(client, b"".join(json.dumps({"text": "x" * 3_000_000}).encode() + b"\n" for _ in range(5))).json()
    page = client.get(f"/v1/datasets/{made['id']}/preview").json()
    assert [row["line"] for row in page["rows"]] == [1, 2, 3]
    rest = client.get(f"/v1/datasets/{made['id']}/preview", params={"cursor": page["next"]}).json()
    assert [row["line"] for row in rest["rows"]] == [4, 5]
    assert rest["next"] is None


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_compressed_body_and_a_compressed_file_are_taken(client: TestClient, pack: Callable[[bytes], bytes]) -> None:
    by_file = upload(client, pack(ROW.encode()), name="train.jsonl.gz").json()
    form = client.build_request("POST", "/v1/datasets/upload", files={"file": ("a.jsonl", ROW)})
    coding = "gzip" if pack is gzip.compress else "zstd"
    headers = {"content-type": form.headers["content-type"], "content-encoding": coding}
    by_body = client.post("/v1/datasets/upload", content=pack(form.read()), headers=headers).json()
    assert by_file["sha256"] == by_body["sha256"] == hashlib.sha256(ROW.encode()).hexdigest()
    reply = client.post("/v1/datasets/upload", content=b"", headers={**headers, "content-encoding": "br"})
    refused(reply, 415, "'br'")


def begin(redis: Redis, dataset_id: str) -> Job:
    """A fine-tune as management records it."""
    finetune_id = new_id()
    with redis.pipeline() as pipe:
        job = JobStore(redis).create(pipe, kind=JobKind.FINETUNE, name="FT_m_d", subject=finetune_id)
        record = Finetune(
            id=finetune_id, name="t", model_id="m", dataset_id=dataset_id, adapter_id="t-1",
            hyperparameters=Hyperparameters(), job_id=job.id, created_at=now(),
        )  # fmt: skip
        FinetuneStore(redis).put(pipe, record)
        pipe.execute()
    return job


def test_a_dataset_is_not_deleted_while_a_fine_tune_needs_it(client: TestClient, redis: Redis) -> None:
    made, other = upload(client, ROW).json(), upload(client, ROW * 2).json()
    job = begin(redis, made["id"])
    refused(client.delete(f"/v1/datasets/{made['id']}"), 409, "FT_m_d")
    assert client.delete(f"/v1/files/file-{made['id']}").status_code == 409
    assert client.delete(f"/v1/datasets/{other['id']}").status_code == 204
    JobStore(redis).interrupt(job.id)
    assert client.delete(f"/v1/datasets/{made['id']}").status_code == 204


def test_no_client_is_told_that_somebody_else_has_the_same_rows(client: TestClient) -> None:
    upload(client, ROW)
    made = upload(client, ROW).json()
    assert "content_id" not in made
    assert "content_id" not in client.get(f"/v1/datasets/{made['id']}/metadata").json()
    assert all("content_id" not in dataset for dataset in client.get("/v1/datasets").json())


def test_a_client_that_leaves_in_mid_upload_leaves_nothing(s3: Minio, redis: Redis, s3_settings: S3Settings) -> None:
    port = free_port()
    app = dataset_app(connect(s3_settings), redis, DatasetSettings())
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
