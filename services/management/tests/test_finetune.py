"""Fine-tunes as management keeps them: planned, listed, resumed, in turn, and their curves, on real Redis and S3."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.base import now
from hearth_contracts.finetune import FinetuneResult, Metric
from hearth_contracts.jobs import JobStatus
from hearth_contracts.names import new_id
from hearth_jobs.finetunes import POINTS_KEPT
from hearth_jobs.queues import TRAINING, waiting
from hearth_management.services import Services

from services.management.tests.conftest import answered, refused

BASE = "acme/llm"
ADAPTER = "support-0a1b2c3d"


@pytest.fixture
def begin(
    client: TestClient, put_model: Callable[..., None], put_dataset: Callable[[str], None]
) -> Callable[..., httpx.Response]:
    """Ask for a fine-tune, or with `path` for its plan, of a base and a dataset of 400 rows that are there."""
    put_model(BASE)
    put_dataset(dataset_id := new_id())

    def ask(path: str = "", **fields: Any) -> httpx.Response:
        body = {"name": "t", "model_id": BASE, "dataset_id": dataset_id, **fields}
        return client.post(f"/v1/finetune{path}", json=body)

    return ask


def newest(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = answered(client.get("/v1/finetune/status"))
    return found


def point(step: int, max_steps: int = 100, **more: Any) -> Metric:
    return Metric(step=step, max_steps=max_steps, epoch=1, loss=1 / step, at=now(), **more)


# -- settings


def test_a_plan_shows_every_setting_and_begins_nothing(
    begin: Callable[..., httpx.Response], services: Services
) -> None:
    plan = answered(begin("/plan", hyperparameters={"lora_rank": 4, "validation_split": 0.1, "batch_size": "auto"}))
    settings = plan["hyperparameters"]
    assert (settings["lora_rank"], settings["lora_alpha"]) == (4, 8)  # alpha is twice the rank
    assert (settings["n_epochs"], settings["batch_size"], settings["learning_rate"]) == (3, 8, 2e-4)
    assert (plan["rows"], plan["steps"], settings["eval_steps"]) == (400, 3 * 45, 13)  # 40 rows are kept back
    assert "lora_rank" not in plan["chosen"] and {"lora_alpha", "batch_size", "learning_rate"} < set(plan["chosen"])
    assert services.jobs.all() == [] and services.finetunes.all() == []


def test_what_a_plan_shows_is_what_is_recorded(begin: Callable[..., httpx.Response], client: TestClient) -> None:
    asked = {"hyperparameters": {"learning_rate_multiplier": 2, "method": "sft"}}
    plan = answered(begin("/plan", **asked))
    assert plan["hyperparameters"]["learning_rate"] == 4e-4
    answered(begin(**asked))
    assert newest(client)["hyperparameters"] == plan["hyperparameters"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 8, "gradient_accumulation_steps": 3}, "cannot be split"),
        ({"early_stopping_patience": 2}, "need a validation_dataset_id"),
        ({"method": "dpo", "packing": True}, "sft alone"),
        ({"learning_rate": 1e-3, "learning_rate_multiplier": 2}, "not both"),
        ({"validation_dataset_id": new_id()}, "no dataset"),
        ({"lr_scheduler_type": "wavy"}, "linear"),
        ({"target_modules": ["../x"]}, "target_modules"),
        ({"max_length": 4097}, "at most 4096 tokens"),
        ({"method": "dpo"}, "preference pairs"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(
    begin: Callable[..., httpx.Response], services: Services, settings: dict[str, Any], words: str
) -> None:
    response = begin(hyperparameters=settings)
    assert response.status_code in (404, 422)
    assert words in response.text
    assert services.jobs.all() == []


def test_workers_that_the_batch_can_be_split_among_are_recorded_and_others_refused(
    begin: Callable[..., httpx.Response], client: TestClient
) -> None:
    refused(begin(resources={"workers": 3}), 422, "a batch of 8 rows", "ask for 2")
    answered(begin(resources={"workers": 4, "gpus_per_worker": 1}))
    assert newest(client)["resources"] == {
        "workers": 4, "gpus_per_worker": 1, "cpus_per_worker": 1, "sharding": "none",
    }  # fmt: skip


def test_a_base_that_is_quantized_is_refused(begin: Callable[..., httpx.Response], services: Services) -> None:
    config = services.home.models / "models--acme--llm" / "snapshots" / "abc" / "config.json"
    config.write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "quantization_config": {"bits": 4}}))
    refused(begin(), 422, "quantized")


# -- resuming


def test_one_that_ended_early_is_resumed_under_the_same_id_with_a_new_job(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    first = answered(begin())
    before = newest(client)
    refused(client.post(f"/v1/finetune/{before['id']}/resume"), 409, "CREATED")
    answered(client.post("/v1/finetune/interrupt"))
    services.finetunes.set_checkpoint(before["id"], 40)

    second = answered(client.post(f"/v1/finetune/{before['id']}/resume"))
    assert second["id"] != first["id"] and second["status"] == "CREATED"
    assert second["id"] in waiting(services.redis, TRAINING)
    after = answered(client.get(f"/v1/finetune/{before['id']}"))
    assert (after["job"]["id"], after["previous_job_ids"]) == (second["id"], [first["id"]])
    assert (after["adapter_id"], after["checkpoint_step"]) == (before["adapter_id"], 40)
    assert [record["id"] for record in answered(client.get("/v1/finetune"))] == [before["id"]]
    assert services.jobs.get(first["id"]).status is JobStatus.KILLED  # over is over


def test_a_finished_one_is_not_resumed(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    job = answered(begin())
    services.jobs.finish(job["id"], services.jobs.claim(job["id"], "me"), JobStatus.FINISHED)
    refused(client.post(f"/v1/finetune/{newest(client)['id']}/resume"), 409, "FINISHED")


def test_of_many_resumptions_at_once_one_is_taken(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    answered(begin())
    answered(client.post("/v1/finetune/interrupt"))
    path = f"/v1/finetune/{newest(client)['id']}/resume"
    with ThreadPoolExecutor(8) as pool:
        codes = [response.status_code for response in pool.map(lambda _: client.post(path), range(8))]
    assert sorted(codes) == [200] + [409] * 7
    assert len(services.jobs.all()) == 2


@pytest.mark.parametrize("finetune_id", [new_id(), "x", "..%2Fx"])
def test_what_is_not_there_is_a_404(client: TestClient, finetune_id: str) -> None:
    refused(client.get(f"/v1/finetune/{finetune_id}"), 404)
    refused(client.post(f"/v1/finetune/{finetune_id}/resume"), 404)
    refused(client.get(f"/v1/finetune/{finetune_id}/metrics"), 404)


# -- merging


def test_a_merge_is_queued_for_the_training_worker_under_a_name_that_is_free(
    client: TestClient, services: Services, put_model: Callable[..., None], put_adapter: Callable[..., None]
) -> None:
    put_model(BASE)
    put_adapter(ADAPTER, BASE)
    path = f"/v1/models/{ADAPTER}/merge"
    refused(client.post(path, json={"model_id": BASE}), 409, "there already")
    refused(client.post(path, json={"model_id": "../x"}), 422, "not a model id")
    refused(client.post("/v1/models/none-00000000/merge", json={"model_id": "acme/merged"}), 404, "none-00000000")
    job = answered(client.post(path, json={"model_id": "acme/merged"}))
    assert (job["name"], job["kind"]) == (f"MERGE_{ADAPTER}", "merge")
    assert waiting(services.redis, TRAINING) == {job["id"]}
    refused(client.post(path, json={"model_id": "acme/merged"}), 409, job["id"])
    for needed in (BASE, ADAPTER):
        refused(client.delete(f"/v1/models/{needed}"), 409, job["id"])


# -- in turn


def test_those_that_wait_have_a_place_by_priority_and_age(
    begin: Callable[..., httpx.Response], client: TestClient
) -> None:
    for name, priority in (("old", 0), ("urgent", 5), ("new", 0), ("whenever", -1)):
        answered(begin(name=name, priority=priority))
    places = {record["name"]: record["position"] for record in answered(client.get("/v1/finetune"))}
    assert places == {"urgent": 1, "old": 2, "new": 3, "whenever": 4}


# -- curves


def test_a_curve_is_read_whole_and_from_a_step_on(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    answered(begin())
    finetune_id = newest(client)["id"]
    before = None
    for step in range(1, 6):
        services.finetunes.add_point(finetune_id, point(step), before)
        before = point(step)
    services.finetunes.add_point(finetune_id, point(5, eval_loss=0.5), before)
    curve = answered(client.get(f"/v1/finetune/{finetune_id}/metrics"))
    assert [entry["step"] for entry in curve["points"]] == [1, 2, 3, 4, 5]
    assert (curve["points"][4]["eval_loss"], curve["job"]["status"]) == (0.5, "CREATED")
    later = answered(client.get(f"/v1/finetune/{finetune_id}/metrics", params={"after": 3}))
    assert [entry["step"] for entry in later["points"]] == [4, 5]
    services.finetunes.void_points_after(finetune_id, 2)
    assert [entry.step for entry in services.finetunes.points(finetune_id)] == [1, 2]


def test_a_long_curve_is_thinned_and_keeps_its_newest_and_measured_steps(services: Services) -> None:
    finetune_id, steps, before = new_id(), 4 * POINTS_KEPT, None
    for step in (1, 2, 3, 4, 5, 6, 7):
        entry = point(step, max_steps=steps, **({"eval_loss": 1.0} if step == 3 else {}))
        services.finetunes.add_point(finetune_id, entry, before)
        before = entry
    assert [entry.step for entry in services.finetunes.points(finetune_id)] == [3, 4, 7]


def test_a_curve_is_drawn_as_a_picture_that_loads_nothing(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    answered(begin(name="<Tom> & Co"))
    path = f"/v1/finetune/{newest(client)['id']}/metrics.svg"
    refused(client.get(path), 404, "first step")
    for step in (1, 2, 3):
        services.finetunes.add_point(newest(client)["id"], point(step, eval_loss=1.0), None)
    response = client.get(path)
    assert response.headers["content-type"] == "image/svg+xml"
    picture = ElementTree.fromstring(response.content)
    words = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"<Tom> & Co", "step", "loss", "eval_loss"} <= words
    assert "<script" not in response.text and "href" not in response.text


def test_a_followed_curve_ends_with_the_finetune(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    job = answered(begin())
    finetune_id = newest(client)["id"]
    for step in (1, 2, 3):
        services.finetunes.add_point(finetune_id, point(step), None)
    result = FinetuneResult(steps=3, train_loss=0.5, tokens=9, seconds=1, base_eval_loss=2.0, eval_loss=1.0)
    services.finetunes.set_result(finetune_id, result)
    services.jobs.finish(job["id"], services.jobs.claim(job["id"], "me"), JobStatus.FINISHED)

    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    response = client.get(f"/v1/finetune/{finetune_id}/metrics", headers=headers)

    assert response.headers["content-type"].startswith("text/event-stream")
    events = [dict(line.split(": ", 1) for line in each.splitlines()) for each in response.text.strip().split("\n\n")]
    assert [event.get("id") for event in events] == ["2", "3", None]
    last = json.loads(events[-1]["data"])
    assert (events[-1]["event"], last["job"]["status"]) == ("end", "FINISHED")
    assert (last["result"]["base_eval_loss"], last["result"]["eval_loss"]) == (2.0, 1.0)
