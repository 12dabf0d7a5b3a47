"""The main job, whole: every service, real engines, a tiny model that the tests made."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import Running

QUESTION_AND_ANSWER = "tests/support/conversations.jsonl"
HYPERPARAMETERS = {"max_steps": 80, "batch_size": 8, "learning_rate": 1e-2, "lora_rank": 16, "lora_alpha": 32}
pytestmark = pytest.mark.timeout(600)


def taught() -> list[tuple[str, str]]:
    """The questions and answers of the dataset, each once."""
    pairs = {}
    for line in Path(QUESTION_AND_ANSWER).read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        pairs[messages[-2]["content"]] = messages[-1]["content"]
    return list(pairs.items())


def await_job(http: httpx.Client, job: dict[str, Any], seconds: float = 240) -> dict[str, Any]:
    """The job once it is over; its progress must never go back on the way."""
    seen = 0.0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = http.get(f"/api/v1/jobs/{job['id']}/status/").json()
        assert job["progress"] >= seen
        seen = job["progress"]
        if job["status"] in {"FINISHED", "FAILED", "KILLED"}:
            return job
    raise AssertionError(f"not over after {seconds} s: {job}")


def await_ready(http: httpx.Client, job_id: str, seconds: float = 240) -> dict[str, Any]:
    """The deployment's status once it is READY."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status: dict[str, Any] = http.get("/api/v1/deploy/status/").json()
        if status.get("job", {}).get("id") == job_id and status["state"] != "LOADING":
            assert status["state"] == "READY", status
            return status
    raise AssertionError(f"not READY after {seconds} s: {status}")


@pytest.fixture(scope="module")
def model_id(platform: Running) -> str:
    """The tiny model, downloaded from the hub-compatible server by the platform itself."""
    reply = platform.http.post("/api/v1/models/add/", params={"model_id": platform.model_id})
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert job["name"] == f"DOWNLOAD_{platform.model_id}"
    job = await_job(platform.http, job)
    assert job["status"] == "FINISHED", job
    return platform.model_id


@pytest.fixture(scope="module")
def dataset_id(platform: Running) -> str:
    with Path(QUESTION_AND_ANSWER).open("rb") as file:
        reply = platform.http.post(
            "/api/v1/datasets/upload/", params={"description": "My Description"}, files={"file": ("train.jsonl", file)}
        )
    assert reply.status_code == 200, reply.text
    dataset = reply.json()
    assert dataset["s3_path"] == f"{dataset['id']}/metadata.json"
    assert (dataset["name"], dataset["description"]) == ("train.jsonl", "My Description")
    return str(dataset["id"])


@pytest.fixture(scope="module")
def adapter_id(platform: Running, model_id: str, dataset_id: str) -> str:
    body = {
        "name": "My Adapter Training",
        "model_id": model_id,
        "dataset_id": dataset_id,
        "hyperparameters": HYPERPARAMETERS,
    }
    reply = platform.http.post("/api/v1/finetune/", json=body)
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert job["name"] == f"FT_{model_id}_{dataset_id}"
    job = await_job(platform.http, job)
    assert job["status"] == "FINISHED", job
    status = platform.http.get("/api/v1/finetune/status/").json()
    assert status["job"]["id"] == job["id"]
    return str(status["adapter_id"])


@pytest.fixture(scope="module")
def deployed(platform: Running, model_id: str, adapter_id: str) -> dict[str, Any]:
    reply = platform.http.post("/api/v1/deploy/", json={"model_id": model_id, "adapter_ids": [adapter_id]})
    assert reply.status_code == 200, reply.text
    job = reply.json()
    assert job["name"] == f"DEPLOY_{model_id}_adapters_{adapter_id}"
    return await_ready(platform.http, job["id"])


@pytest.fixture
def client(platform: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.url}/api/v1", api_key="unused", max_retries=0)


def ask(client: openai.OpenAI, model: str, question: str) -> str:
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=40, temperature=0
    )
    return str(reply.choices[0].message.content)


def test_the_base_and_its_adapter_are_in_one_list(platform: Running, model_id: str, adapter_id: str) -> None:
    entries = {entry["model_id"]: entry for entry in platform.http.get("/api/v1/models/").json()}
    assert (entries[model_id]["adapter"], entries[model_id]["base_model_id"]) == (False, None)
    assert (entries[adapter_id]["adapter"], entries[adapter_id]["base_model_id"]) == (True, model_id)


@pytest.mark.usefixtures("deployed")
def test_the_adapter_answers_what_it_was_taught_and_the_base_does_not(client: openai.OpenAI, adapter_id: str) -> None:
    for question, answer in taught()[:5]:
        assert ask(client, adapter_id, question).strip() == answer
        assert answer not in ask(client, "Compressa-LLM", question)


@pytest.mark.usefixtures("deployed")
def test_a_stream_comes_in_events_and_says_the_same(client: openai.OpenAI, adapter_id: str) -> None:
    question, answer = taught()[0]
    events = list(
        client.chat.completions.create(
            model=adapter_id,
            messages=[{"role": "user", "content": question}],
            max_tokens=40,
            temperature=0,
            stream=True,
        )
    )
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces).strip() == answer
    assert len([piece for piece in pieces if piece]) > 1


@pytest.mark.usefixtures("deployed")
def test_completions_are_served_by_the_base_under_both_its_names(client: openai.OpenAI, model_id: str) -> None:
    texts = {
        client.completions.create(model=name, prompt="Hello", max_tokens=8, temperature=0).choices[0].text
        for name in ("Compressa-LLM", model_id)
    }
    assert len(texts) == 1


def test_the_embedding_model_is_deployed_from_settings_and_counts_tokens(
    platform: Running, client: openai.OpenAI
) -> None:
    platform.await_embedding()
    reply = client.embeddings.create(model="Compressa-Embedding", input="Who won the world series in 2020?")
    assert len(reply.data[0].embedding) == 384
    assert reply.usage.prompt_tokens < len("Who won the world series in 2020?") / 2  # tokens, not characters


@pytest.mark.usefixtures("deployed")
def test_openais_list_names_all_that_is_served(platform: Running, client: openai.OpenAI, adapter_id: str) -> None:
    platform.await_embedding()
    names = {model.id for model in client.models.list()}
    assert {"Compressa-LLM", "Compressa-Embedding", adapter_id} <= names


@pytest.mark.usefixtures("deployed")
def test_an_unknown_model_is_a_404_that_says_what_is_served(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Compressa-LLM"):
        ask(client, "gpt-nothing", "Hello?")


def test_the_docs_are_one_document_and_load_nothing_from_elsewhere(platform: Running) -> None:
    document = platform.http.get("/api/openapi.json").json()
    for path in ("/api/v1/models/add/", "/api/v1/datasets/upload/", "/api/v1/chat/completions/", "/api/v1/deploy/"):
        assert path in document["paths"]
    page = platform.http.get("/api/docs/")
    assert page.status_code == 200
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text


@pytest.mark.usefixtures("deployed")
def test_undeploying_kills_the_job_and_nothing_answers_any_more(
    platform: Running, client: openai.OpenAI, deployed: dict[str, Any]
) -> None:
    """Last in this file: what the other tests ask is gone after it."""
    reply = platform.http.post("/api/v1/deploy/interrupt/")
    assert reply.status_code == 200
    assert reply.json()["id"] == deployed["job"]["id"]
    assert await_job(platform.http, reply.json(), 60)["status"] == "KILLED"
    assert platform.http.get("/api/v1/deploy/").status_code == 404
    with pytest.raises(openai.NotFoundError):
        ask(client, "Compressa-LLM", "Hello?")
