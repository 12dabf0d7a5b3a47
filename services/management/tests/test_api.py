"""Every route of management: what it answers, and how it refuses, on real Redis and S3."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, NodeReport
from hearth_contracts.jobs import JobStatus
from hearth_contracts.names import new_id
from hearth_jobs.deployments import LLM_DEPLOYMENT
from hearth_jobs.queues import DOWNLOADS, INFERENCE_LLM, TRAINING, waiting
from hearth_management.app import management_app
from hearth_management.services import Services

from services.management.tests.conftest import answered, refused

BASE = "acme/llm"
ADAPTER = "support-0a1b2c3d"


def add(client: TestClient, model_id: str) -> httpx.Response:
    return client.post("/v1/models/add", params={"model_id": model_id})


# -- models


def test_adding_a_model_begins_a_download_job(client: TestClient, services: Services) -> None:
    job = answered(add(client, BASE))
    assert (job["name"], job["status"], job["kind"]) == (f"DOWNLOAD_{BASE}", "CREATED", "download")
    assert waiting(services.redis, DOWNLOADS) == {job["id"]}


def test_a_model_is_added_once(client: TestClient, put_model: Callable[..., None]) -> None:
    job = answered(add(client, BASE))
    refused(add(client, BASE), 409, job["id"])
    client.post(f"/v1/jobs/{job['id']}/interrupt")
    answered(add(client, BASE))
    put_model("acme/there")
    refused(add(client, "acme/there"), 409, "there already")


def test_of_many_requests_at_once_for_one_model_one_is_taken(client: TestClient, services: Services) -> None:
    with ThreadPoolExecutor(8) as pool:
        codes = [response.status_code for response in pool.map(lambda _: add(client, BASE), range(8))]
    assert sorted(codes) == [200] + [409] * 7
    assert len(services.jobs.all()) == 1


@pytest.mark.parametrize("model_id", ["", "../etc", "a/b/c", "acme/..", "acme/x--y", "acme/llm\n", "/abs", "a b"])
def test_what_cannot_be_a_model_id_is_refused(client: TestClient, services: Services, model_id: str) -> None:
    refused(add(client, model_id), 422, "is not a model id")
    refused(client.post("/v1/models/import", json={"model_id": model_id, "folder": "x"}), 422, "is not a model id")
    assert services.jobs.all() == []


def test_adding_without_an_id_says_where_it_belongs(client: TestClient) -> None:
    response = client.post("/v1/models/add")
    refused(response, 422)
    assert response.json()["errors"][0]["loc"] == ["query", "model_id"]


def test_importing_a_folder_begins_a_job(
    client: TestClient, services: Services, put_folder: Callable[[str], Path]
) -> None:
    put_folder("mini")
    body = {"model_id": "acme/mini", "folder": "mini"}
    job = answered(client.post("/v1/models/import", json=body))
    assert (job["name"], job["kind"]) == ("IMPORT_acme/mini", "import")
    assert waiting(services.redis, DOWNLOADS) == {job["id"]}
    refused(client.post("/v1/models/import", json=body), 409, job["id"])


def test_a_folder_that_is_no_model_is_refused_with_the_reason(
    client: TestClient, services: Services, put_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    def take(folder: str) -> httpx.Response:
        return client.post("/v1/models/import", json={"model_id": "acme/mini", "folder": folder})

    put_folder("good")
    for name in ("missing", "../home", "", ".", "good/../good"):
        refused(take(name), 404, "there are: good")
    (put_folder("no-config") / "config.json").unlink()
    refused(take("no-config"), 422, "config.json")
    weights = put_folder("pickled") / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    refused(take("pickled"), 422, "safetensors")
    outside = tmp_path / "outside"
    put_folder("moved").rename(outside)
    (services.home.imports / "moved").symlink_to(outside)
    refused(take("moved"), 422, "a link that leads out")
    assert services.jobs.all() == []


def test_models_are_bases_and_adapters(
    client: TestClient, put_model: Callable[..., None], put_adapter: Callable[..., None]
) -> None:
    assert answered(client.get("/v1/models")) == []
    put_model(BASE)
    put_model("acme/bert", "BertModel")
    put_adapter(ADAPTER, BASE)
    listed = {entry["model_id"]: entry for entry in answered(client.get("/v1/models/"))}
    assert listed.keys() == {BASE, "acme/bert", ADAPTER}
    assert (listed[BASE]["adapter"], listed[BASE]["license"], listed[BASE]["size_bytes"]) == (False, "mit", 7)
    assert (listed[ADAPTER]["adapter"], listed[ADAPTER]["base_model_id"]) == (True, BASE)
    assert [entry["model_id"] for entry in answered(client.get("/v1/finetune/models"))] == [BASE]


def test_models_are_deleted(
    client: TestClient, put_model: Callable[..., None], put_adapter: Callable[..., None]
) -> None:
    put_model(BASE)
    put_adapter(ADAPTER, BASE)
    for model_id in (ADAPTER, BASE):
        response = client.delete(f"/v1/models/{model_id}")
        assert (response.status_code, response.content) == (204, b"")
        refused(client.delete(f"/v1/models/{model_id}"), 404, model_id)
    assert answered(client.get("/v1/models")) == []


@pytest.mark.parametrize("model_id", ["..%2F..%2Fetc", "acme/..%2F..%2Fx", "UPPER", "no-such"])
def test_deleting_what_is_not_there_is_a_404(client: TestClient, model_id: str) -> None:
    refused(client.delete(f"/v1/models/{model_id}"), 404)


def test_a_model_in_use_is_not_deleted(
    client: TestClient,
    put_model: Callable[..., None],
    put_adapter: Callable[..., None],
    put_dataset: Callable[[str], None],
) -> None:
    put_model(BASE)
    put_adapter(ADAPTER, BASE)
    answered(client.post("/v1/deploy", json={"model_id": BASE, "adapter_ids": [ADAPTER]}))
    refused(client.delete(f"/v1/models/{BASE}"), 409, "deployed")
    refused(client.delete(f"/v1/models/{ADAPTER}"), 409, "deployed")
    answered(client.post("/v1/deploy/interrupt"))

    put_dataset(dataset_id := new_id())
    job = answered(client.post("/v1/finetune", json={"name": "t", "model_id": BASE, "dataset_id": dataset_id}))
    refused(client.delete(f"/v1/models/{BASE}"), 409, job["id"])
    answered(client.post("/v1/finetune/interrupt"))
    assert client.delete(f"/v1/models/{BASE}").status_code == 204


def test_a_model_that_is_being_added_is_not_deleted_and_what_an_interrupted_download_left_is(
    client: TestClient, services: Services
) -> None:
    job = answered(add(client, BASE))
    partial = services.home.models / "models--acme--llm" / "partial"
    partial.mkdir(parents=True)
    refused(client.delete(f"/v1/models/{BASE}"), 409, job["id"])
    answered(client.post(f"/v1/jobs/{job['id']}/interrupt"))
    assert client.delete(f"/v1/models/{BASE}").status_code == 204
    assert not partial.parent.exists()


# -- deploy


def ask(client: TestClient, *adapter_ids: str, model_id: str = BASE) -> httpx.Response:
    return client.post("/v1/deploy", json={"model_id": model_id, "adapter_ids": adapter_ids})


def desired(services: Services) -> DeploymentSpec:
    record = services.deployments.get(LLM_DEPLOYMENT)
    assert record is not None
    assert record.desired is not None
    return record.desired


def node(services: Services, spec: DeploymentSpec, state: DeploymentState, detail: str = "") -> None:
    """What an inference node reports of this version."""
    report = NodeReport(
        node_id="node",
        deployment=spec.name,
        engine=spec.engine,
        state=state,
        url="http://127.0.0.1:1" if state is DeploymentState.READY else "",
        adapter_ids=spec.adapter_ids,
        model_id=spec.model_id,
        generation=spec.generation,
        detail=detail,
    )
    services.nodes.report(report)


def test_a_deploy_is_recorded_and_queued_under_the_references_name(
    client: TestClient, services: Services, put_model: Callable[..., None], put_adapter: Callable[..., None]
) -> None:
    put_model(BASE)
    put_adapter(ADAPTER, BASE)
    job = answered(ask(client, ADAPTER))
    assert (job["name"], job["status"]) == (f"DEPLOY_{BASE}_adapters_{ADAPTER}", "CREATED")
    assert answered(client.get("/v1/deploy")) == {"model_id": BASE, "adapter_ids": [ADAPTER]}
    assert waiting(services.redis, INFERENCE_LLM) == {LLM_DEPLOYMENT}
    assert desired(services).served_name == "Compressa-LLM"


def test_what_cannot_be_deployed_is_refused_and_changes_nothing(
    client: TestClient, services: Services, put_model: Callable[..., None], put_adapter: Callable[..., None]
) -> None:
    put_model(BASE)
    put_model("acme/other")
    put_model("acme/bert", "BertModel")
    put_adapter(ADAPTER, BASE)
    put_adapter("too-wide", BASE, rank=128)
    refused(ask(client, model_id="acme/none"), 404, "acme/none", f"{BASE}, acme/other")
    refused(ask(client, model_id="../../etc"), 404)
    refused(ask(client, "no-such"), 404, "no-such")
    refused(ask(client, "../../etc"), 404)
    refused(ask(client, ADAPTER, model_id="acme/other"), 422, BASE, "acme/other")
    refused(ask(client, "too-wide"), 422, "128", "64")
    refused(ask(client, ADAPTER, ADAPTER), 422, "twice")
    refused(ask(client, model_id="acme/bert"), 422, "embeds text")
    refused(client.post("/v1/deploy", json={"model_id": BASE, "adapters": []}), 422)
    refused(client.post("/v1/deploy", content=b"{"), 422)
    assert (services.deployments.all(), services.jobs.all()) == ([], [])


def test_with_nothing_deployed_there_is_nothing_to_show_or_to_undeploy(client: TestClient) -> None:
    for response in (
        client.get("/v1/deploy"),
        client.get("/v1/deploy/status"),
        client.post("/v1/deploy/interrupt"),
    ):
        refused(response, 404, "nothing is deployed")


def test_the_status_follows_the_deployment_from_loading_to_ready_to_draining_to_gone(
    client: TestClient, services: Services, put_model: Callable[..., None]
) -> None:
    put_model(BASE)
    job = answered(ask(client))
    status = answered(client.get("/v1/deploy/status"))
    assert (status["state"], status["detail"], status["serving"]) == ("LOADING", "waiting for an inference node", None)
    assert status["job"] == job

    spec = desired(services)
    attempt = services.jobs.claim(job["id"], "node")
    node(services, spec, DeploymentState.LOADING, "the engine starts")
    status = answered(client.get("/v1/deploy/status"))
    assert (status["state"], status["detail"]) == ("LOADING", "the engine starts")

    services.deployments.settle(spec)
    node(services, spec, DeploymentState.READY)
    status = answered(client.get("/v1/deploy/status"))
    assert (status["state"], status["detail"], status["job"]["status"]) == ("READY", "", "RUNNING")
    assert status["serving"] == {"model_id": BASE, "adapter_ids": []}

    services.nodes.withdraw("node")  # its engine or machine died
    assert answered(client.get("/v1/deploy/status"))["state"] == "LOADING"

    undeployed = answered(client.post("/v1/deploy/interrupt"))
    assert (undeployed["id"], undeployed["status"]) == (job["id"], "RUNNING")
    assert answered(client.get("/v1/deploy/status"))["state"] == "DRAINING"
    refused(client.get("/v1/deploy"), 404, "nothing is deployed")
    services.jobs.finish(job["id"], attempt, JobStatus.KILLED)
    refused(client.get("/v1/deploy/status"), 404, "nothing is deployed")
    refused(client.post("/v1/deploy/interrupt"), 404, "nothing is deployed")


def test_a_deploy_that_was_given_up_is_failed_with_its_reason(
    client: TestClient, services: Services, put_model: Callable[..., None]
) -> None:
    put_model(BASE)
    job = answered(ask(client))
    attempt = services.jobs.claim(job["id"], "node")
    assert services.deployments.give_up(desired(services), "no memory")
    services.jobs.finish(job["id"], attempt, JobStatus.FAILED, "no memory")
    status = answered(client.get("/v1/deploy/status"))
    assert (status["state"], status["detail"], status["job"]["error"]) == ("FAILED", "no memory", "no memory")
    answered(ask(client))
    status = answered(client.get("/v1/deploy/status"))
    assert (status["state"], status["detail"]) == ("LOADING", "waiting for an inference node")


def test_while_another_model_loads_the_status_tells_which_one_answers(
    client: TestClient, services: Services, put_model: Callable[..., None]
) -> None:
    put_model(BASE)
    put_model("acme/next")
    answered(ask(client))
    first = desired(services)
    services.jobs.claim(first.job_id, "node")
    services.deployments.settle(first)
    node(services, first, DeploymentState.READY)
    job = answered(ask(client, model_id="acme/next"))
    status = answered(client.get("/v1/deploy/status"))
    assert (status["model_id"], status["state"], status["serving"]["model_id"]) == ("acme/next", "LOADING", BASE)
    refused(client.delete(f"/v1/models/{BASE}"), 409, "deployed")

    answered(client.post(f"/v1/jobs/{job['id']}/interrupt"))  # the first one goes on
    status = answered(client.get("/v1/deploy/status"))
    assert (status["model_id"], status["state"]) == (BASE, "READY")
    assert status["detail"] == "the last deploy was given up: interrupted"
    assert answered(client.get(f"/v1/jobs/{job['id']}/status"))["status"] == "KILLED"


def test_interrupting_the_job_of_what_is_deployed_undeploys_it(
    client: TestClient, services: Services, put_model: Callable[..., None]
) -> None:
    put_model(BASE)
    job = answered(ask(client))
    services.jobs.claim(job["id"], "node")
    services.deployments.settle(desired(services))
    assert answered(client.post(f"/v1/jobs/{job['id']}/interrupt"))["stage"] == "stopping"
    refused(client.get("/v1/deploy"), 404)


# -- fine-tuning


def test_a_finetune_is_recorded_and_queued(
    client: TestClient, services: Services, put_model: Callable[..., None], put_dataset: Callable[[str], None]
) -> None:
    put_model(BASE)
    put_dataset(dataset_id := new_id())
    body = {"name": "My Support!", "model_id": BASE, "dataset_id": dataset_id, "hyperparameters": {"lora_rank": 4}}
    job = answered(client.post("/v1/finetune", json=body))
    assert (job["name"], job["status"], job["kind"]) == (f"FT_{BASE}_{dataset_id}", "CREATED", "finetune")
    assert waiting(services.redis, TRAINING) == {job["id"]}
    status = answered(client.get("/v1/finetune/status"))
    assert (status["name"], status["model_id"], status["job"]) == ("My Support!", BASE, job)
    assert status["adapter_id"] == f"my-support-{status['id'][:8]}"
    assert (status["hyperparameters"]["lora_rank"], status["hyperparameters"]["lora_alpha"]) == (4, 8)

    killed = answered(client.post("/v1/finetune/interrupt"))
    assert (killed["id"], killed["status"]) == (job["id"], "KILLED")
    assert answered(client.post("/v1/finetune/interrupt")) == killed


def test_what_cannot_be_finetuned_is_refused_and_changes_nothing(
    client: TestClient, services: Services, put_model: Callable[..., None], put_dataset: Callable[[str], None]
) -> None:
    put_model(BASE)
    put_model("acme/bert", "BertModel")
    put_dataset(dataset_id := new_id())

    def begin(**fields: Any) -> httpx.Response:
        return client.post("/v1/finetune", json={"name": "t", "model_id": BASE, "dataset_id": dataset_id, **fields})

    refused(begin(dataset_id=(unknown := new_id())), 404, unknown)
    refused(begin(dataset_id="../x"), 404, "../x")
    refused(begin(model_id="acme/none"), 404, "acme/none")
    refused(begin(model_id="acme/bert"), 422, "does not generate text")
    refused(begin(name=""), 422)
    for wrong in ({"n_epochs": 0}, {"learning_rate": -1}, {"lora_rank": 10_000}, {"lora_rank": 65}, {"n_epoch": 3}):
        response = begin(hyperparameters=wrong)
        refused(response, 422)
        assert response.json()["errors"][0]["loc"] == ["body", "hyperparameters", *wrong]
    assert services.jobs.all() == []


def test_without_a_finetune_there_is_no_status(client: TestClient) -> None:
    refused(client.get("/v1/finetune/status"), 404, "no fine-tune yet")
    refused(client.post("/v1/finetune/interrupt"), 404, "no fine-tune yet")


# -- the whole


def test_it_is_ready_when_its_stores_are(client: TestClient) -> None:
    assert client.get("/health/ready").status_code == 200


def test_the_reconciler_lives_as_long_as_the_app(services: Services) -> None:
    with TestClient(management_app(services)) as running:
        assert answered(running.get("/v1/jobs")) == []
