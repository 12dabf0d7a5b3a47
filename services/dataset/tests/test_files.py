"""OpenAI's files over the datasets, asked by OpenAI's own client."""

import json
from collections.abc import Iterator

import openai
import pytest
from fastapi.testclient import TestClient
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from minio import Minio
from redis import Redis

ROW = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}) + "\n"


@pytest.fixture
def http(s3: Minio, redis: Redis) -> Iterator[TestClient]:
    with TestClient(dataset_app(s3, redis, DatasetSettings())) as client:
        yield client


@pytest.fixture
def client(http: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://testserver/v1", api_key="unused", http_client=http, max_retries=0)


def create(client: openai.OpenAI, text: str = ROW, name: str = "train.jsonl") -> openai.types.FileObject:
    return client.files.create(file=(name, text.encode()), purpose="fine-tune")


def test_a_file_is_a_dataset_under_another_name(client: openai.OpenAI, http: TestClient) -> None:
    made = create(client)
    assert (made.filename, made.bytes, made.purpose, made.status) == ("train.jsonl", len(ROW), "fine-tune", "processed")
    assert [dataset["id"] for dataset in http.get("/v1/datasets").json()] == [made.id.removeprefix("file-")]
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).text == ROW
    assert client.files.wait_for_processing(made.id) == made


def test_files_are_listed_in_pages_newest_first(client: openai.OpenAI, http: TestClient) -> None:
    made = [create(client, name=f"{number}.jsonl") for number in range(3)]
    http.post("/v1/datasets/upload", files={"file": ("by hand.jsonl", ROW)})
    page = client.files.list(limit=2)
    assert [file.filename for file in page.data] == ["by hand.jsonl", "2.jsonl"]
    assert page.has_more
    assert [file.filename for file in page] == ["by hand.jsonl", "2.jsonl", "1.jsonl", "0.jsonl"]  # it asks for more
    assert [file.id for file in client.files.list(order="asc").data][:3] == [file.id for file in made]
    assert client.files.list(purpose="batch").data == []


def test_a_deleted_file_is_gone(client: openai.OpenAI) -> None:
    made = create(client)
    deleted = client.files.delete(made.id)
    assert (deleted.id, deleted.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.delete(made.id)


@pytest.mark.parametrize("given", ["file-nothing", "file-../../x", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_file_is_openais_404(http: TestClient, given: str) -> None:
    reply = http.get("/v1/files/" + given.replace("/", "%2F"))
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_bad_line_is_named_in_openais_error_and_nothing_is_kept(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="line 2 messages 0 role: must be one of") as refusal:
        create(client, ROW + '{"messages": [{"role": "robot", "content": "x"}]}\n')
    assert (refusal.value.param, refusal.value.code) == ("file", "invalid_file")
    assert client.files.list().data == []


def test_another_purpose_is_refused_and_nothing_is_kept(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'batch'") as refusal:
        client.files.create(file=("x.jsonl", ROW.encode()), purpose="batch")
    assert refusal.value.param == "purpose"
    assert client.files.list().data == []


def test_a_form_without_a_purpose_or_with_an_endless_one_is_refused(http: TestClient) -> None:
    for form in ({}, {"purpose": "x" * 5000}):
        reply = http.post("/v1/files", data=form, files={"file": ("x.jsonl", ROW)})
        assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_wrong_parameter_is_openais_400_and_a_wrong_method_its_405(http: TestClient) -> None:
    reply = http.get("/v1/files", params={"limit": 0})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "limit")
    reply = http.put("/v1/files")
    assert (reply.status_code, reply.json()["error"]["type"]) == (405, "invalid_request_error")
