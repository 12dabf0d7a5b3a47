"""Every request of the reference, run by curl as it is printed there: only the host and the ids are ours.

In the order of the main job, since each needs what the ones before it made. docs/api.md has the table.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import CONVERSATIONS, OTHER_MODEL_ID, Running
from tests.contract.reference import faults, requests, run

pytestmark = pytest.mark.timeout(600)

REQUESTS = requests()
DATASET = "01be6d68-f790-434b-aa6d-5bd492aef202"
DOWNLOAD_JOB = "4d78d943-1896-4d7b-9f11-b10cc2389ba3"
DEPLOY_JOB = "8a63349c-078f-4e98-8968-4f011593329c"
BASE = "NousResearch/Llama-2-7b-chat-hf"
# What infinity leaves out: an embedding completes nothing.
LEFT_OUT = {"POST /v1/embeddings/": [".usage.completion_tokens is missing"]}

Replay = Callable[..., Any]


@pytest.fixture
def replay(platform: Running, tmp_path: Path) -> Replay:
    """Run a request as printed; its reply, checked field by field."""
    (tmp_path / "train.jsonl").write_bytes(CONVERSATIONS.read_bytes())

    def send(name: str, **replace: str) -> Any:
        request = REQUESTS[name]
        status, body = run(request.curl, platform.url, replace, tmp_path)
        assert status == 200, body
        if request.schema is None:
            return body
        reply = json.loads(body)
        assert faults(request.schema, reply) == LEFT_OUT.get(name, [])
        return reply

    return send


@pytest.fixture(scope="module")
def second_adapter(platform: Running) -> list[str]:
    """The id of the adapter that the reference's fine-tune leaves, once it has run."""
    return []


def begin_finetune(http: httpx.Client, model_id: str, dataset_id: str) -> dict[str, Any]:
    body = {"name": "Never done", "model_id": model_id, "dataset_id": dataset_id}
    reply = http.post("/api/v1/finetune/", json=body)
    assert reply.status_code == 200, reply.text
    job: dict[str, Any] = reply.json()
    return job


def test_no_request_of_the_reference_is_left_out() -> None:
    assert len(REQUESTS) == 19
    assert set(re.findall(r'"((?:GET|POST) /v1/[^"]*)"', Path(__file__).read_text())) == set(REQUESTS)


@pytest.mark.usefixtures("adapter_id")
def test_models_are_listed(replay: Replay, model_id: str) -> None:
    entries = {entry["model_id"]: entry for entry in replay("GET /v1/models/")}
    assert (entries[model_id]["adapter"], entries[model_id]["base_model_id"]) == (False, None)


def test_a_model_is_added(replay: Replay, platform: Running) -> None:
    job = replay("POST /v1/models/add/", mymodel_id=OTHER_MODEL_ID)
    assert job["name"] == f"DOWNLOAD_{OTHER_MODEL_ID}"
    assert platform.await_job(job)["status"] == "FINISHED"


def test_a_dataset_is_uploaded_listed_and_comes_back(replay: Replay) -> None:
    made = replay("POST /v1/datasets/upload/")
    assert (made["name"], made["description"]) == ("train.jsonl", "My Description")
    assert made["id"] in [dataset["id"] for dataset in replay("GET /v1/datasets/")]
    assert replay("GET /v1/datasets/{dataset_id}/", **{DATASET: made["id"]}) == CONVERSATIONS.read_text()


def test_models_for_finetuning_are_listed(replay: Replay, model_id: str) -> None:
    entries = replay("GET /v1/finetune/models/")
    assert model_id in [entry["model_id"] for entry in entries]
    assert not any(entry["adapter"] for entry in entries)


def test_an_adapter_is_finetuned(
    replay: Replay, platform: Running, model_id: str, dataset_id: str, second_adapter: list[str]
) -> None:
    job = replay("POST /v1/finetune/", **{BASE: model_id, DATASET: dataset_id})
    assert job["name"] == f"FT_{model_id}_{dataset_id}"
    status = replay("GET /v1/finetune/status")
    assert (status["name"], status["job"]["id"]) == ("My Adapter Training", job["id"])
    assert (status["model_id"], status["dataset_id"]) == (model_id, dataset_id)
    assert platform.await_job(job)["status"] == "FINISHED"
    second_adapter.append(status["adapter_id"])


def test_the_current_finetuning_is_interrupted(
    replay: Replay, platform: Running, model_id: str, dataset_id: str
) -> None:
    begun = begin_finetune(platform.http, model_id, dataset_id)
    assert replay("POST /v1/finetune/interrupt/")["id"] == begun["id"]
    assert platform.await_job(begun)["status"] == "KILLED"


def test_jobs_are_listed_shown_and_interrupted(
    replay: Replay, platform: Running, model_id: str, dataset_id: str
) -> None:
    begun = begin_finetune(platform.http, model_id, dataset_id)
    interrupted = replay("POST /v1/jobs/{job_id}/interrupt/", **{DEPLOY_JOB: begun["id"]})
    assert interrupted["id"] == begun["id"]
    assert platform.await_job(begun)["status"] == "KILLED"
    listed = replay("GET /v1/jobs/")
    assert [listed[0]["id"], listed[0]["status"]] == [begun["id"], "KILLED"]  # the newest first
    download = next(job for job in listed if job["name"] == f"DOWNLOAD_{model_id}")
    shown = replay("GET /v1/jobs/{job_id}/status/", **{DOWNLOAD_JOB: download["id"]})
    assert shown == platform.http.get(f"/api/v1/jobs/{download['id']}/status/").json()
    assert shown["status"] == "FINISHED"


@pytest.mark.usefixtures("deployed")
def test_a_model_with_two_adapters_is_deployed(
    replay: Replay, platform: Running, model_id: str, adapter_id: str, second_adapter: list[str]
) -> None:
    both = [adapter_id, second_adapter[0]]
    replace = {"model_id1": model_id, "adapter_id1": both[0], "adapter_id2": both[1]}
    job = replay("POST /v1/deploy/", **replace)
    assert job["name"] == f"DEPLOY_{model_id}_adapters_{both[0]}_{both[1]}"
    platform.await_ready(job["id"])
    deployed = replay("GET /v1/deploy/")
    assert (deployed["model_id"], deployed["adapter_ids"]) == (model_id, both)
    status = replay("GET /v1/deploy/status")
    assert (status["adapter_ids"], status["job"]["id"], status["job"]["status"]) == (both, job["id"], "RUNNING")


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("name", ["POST /v1/completions/", "POST /v1/chat/completions/"])
def test_text_is_completed(replay: Replay, name: str) -> None:
    reply = replay(name)
    usage = reply["usage"]
    assert reply["model"] == "Compressa-LLM"
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert 0 < usage["completion_tokens"] <= 128


def test_text_is_embedded(replay: Replay, platform: Running) -> None:
    platform.await_embedding()
    reply = replay("POST /v1/embeddings/")
    assert (reply["object"], reply["model"], len(reply["data"][0]["embedding"])) == ("list", "Compressa-Embedding", 384)


@pytest.mark.last
@pytest.mark.usefixtures("deployed")
def test_undeploying_kills_the_job_and_nothing_answers_any_more(replay: Replay, platform: Running) -> None:
    carrier = platform.http.get("/api/v1/deploy/status/").json()["job"]
    undeployed = replay("POST /v1/deploy/interrupt/")
    assert undeployed["id"] == carrier["id"]
    assert platform.await_job(undeployed, 60)["status"] == "KILLED"
    assert platform.http.get("/api/v1/deploy/").status_code == 404
    body = {"model": "Compressa-LLM", "prompt": "Hello?"}
    assert platform.http.post("/api/v1/completions", json=body).status_code == 404
