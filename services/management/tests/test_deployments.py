"""Deployments by name, engine settings, adapters looked at before they are deployed, and whether all of it fits."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport, Task
from hearth_contracts.engine import EngineSettings
from hearth_fit import machine
from hearth_fit.machine import Machine, Room
from hearth_jobs.guard import started
from hearth_jobs.models import model_of
from hearth_jobs.owners import this_process
from hearth_jobs.queues import INFERENCE_EMBEDDING, waiting
from hearth_management.adapters import misfit
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import Services
from hearth_storage.model_store import find_model
from hearth_storage.objects import ARTIFACTS
from minio import Minio

from services.management.tests.conftest import BASE_SHAPES, SMALL, answered, lora, refused, safetensors

BASE = "acme/llm"
ADAPTER = "support-0a1b2c3d"
GIB = 2**30
PutModel = Callable[..., None]
PutAdapter = Callable[..., None]


def ask(client: TestClient, *adapter_ids: str, **fields: Any) -> httpx.Response:
    return client.post("/v1/deploy", json={"model_id": BASE, "adapter_ids": adapter_ids, **fields})


def undisturbed(services: Services) -> None:
    """Nothing was recorded: no engine is touched."""
    assert (services.deployments.all(), services.jobs.all()) == ([], [])


def test_what_nodes_are_to_fetch_is_recorded_with_a_deployment_until_the_model_is_deleted(
    client: TestClient, services: Services, put_model: PutModel
) -> None:
    put_model(BASE)
    assert model_of(services.redis, BASE) is None
    answered(ask(client))
    assert model_of(services.redis, BASE) == find_model(services.home.models, BASE)
    client.delete("/v1/deployments/default")
    assert client.delete(f"/v1/models/{BASE}").is_success
    assert model_of(services.redis, BASE) is None


# -- by name


def test_every_deployment_is_listed_whether_or_not_something_is_deployed(
    client: TestClient, put_model: PutModel
) -> None:
    listed = answered(client.get("/v1/deployments/"))
    assert [(entry["name"], entry["task"], entry["served_name"], entry["status"]) for entry in listed] == [
        ("default", "generate", "Compressa-LLM", None),
        ("embedding", "embed", "Compressa-Embedding", None),
        ("rerank", "rerank", "Compressa-Rerank", None),
    ]
    put_model(BASE)
    job = answered(ask(client))
    entry = answered(client.get("/v1/deployments/default/"))
    assert entry["status"] == answered(client.get("/v1/deploy/status"))
    assert entry["status"]["job"]["id"] == job["id"]


@pytest.mark.parametrize(
    ("name", "architecture", "task"),
    [("embedding", "BertModel", Task.EMBED), ("rerank", "XLMRobertaForSequenceClassification", Task.RERANK)],
)
def test_an_embedding_model_and_a_reranker_are_deployed_undeployed_and_deployed_again(
    client: TestClient, services: Services, put_model: PutModel, name: str, architecture: str, task: Task
) -> None:
    put_model("acme/encoder", architecture)
    for generation in (1, 2):
        job = answered(client.put(f"/v1/deployments/{name}/", json={"model_id": "acme/encoder"}))
        assert job["name"] == "DEPLOY_acme/encoder"
        record = services.deployments.get(name)
        assert record is not None
        assert record.desired is not None
        assert (record.desired.engine, record.desired.task) == (Engine.INFINITY, task)
        assert record.desired.generation == generation
        assert name in waiting(services.redis, INFERENCE_EMBEDDING)
        assert answered(client.delete(f"/v1/deployments/{name}"))["id"] == job["id"]
        refused(client.delete(f"/v1/deployments/{name}"), 404, "nothing is deployed", f"/v1/deployments/{name}/")
        assert answered(client.get(f"/v1/deployments/{name}"))["status"] is None


def test_a_model_is_deployed_under_the_name_of_its_task_alone(
    client: TestClient, services: Services, put_model: PutModel
) -> None:
    put_model(BASE)
    put_model("acme/bert", "BertModel")
    put_model("acme/ranker", "BertForSequenceClassification", id2label={"0": "LABEL_0"})
    put_model("acme/classifier", "BertForSequenceClassification", id2label={"0": "good", "1": "bad"})
    put_model("acme/odd", "ResNetForImageClassification")

    def put(name: str, model_id: str) -> httpx.Response:
        return client.put(f"/v1/deployments/{name}", json={"model_id": model_id})

    refused(put("default", "acme/bert"), 422, "embeds text", "generates text")
    refused(put("embedding", BASE), 422, "generates text")
    refused(put("embedding", "acme/ranker"), 422, "ranks documents")
    refused(put("rerank", "acme/classifier"), 422, "no engine of Hearth")
    refused(put("embedding", "acme/odd"), 422, "no engine of Hearth")
    refused(put("other", BASE), 404, "there are: default, embedding, rerank")
    refused(client.get("/v1/deployments/other"), 404)
    refused(client.delete("/v1/deployments/..%2Fx"), 404)
    with_adapters = {"model_id": "acme/bert", "adapter_ids": ["a"]}
    refused(client.put("/v1/deployments/embedding", json=with_adapters), 422, "adapter_ids")
    with_settings = {"model_id": "acme/bert", "engine": {"dtype": "float32"}}
    refused(client.put("/v1/deployments/embedding", json=with_settings), 422, "engine", "dtype")
    undisturbed(services)


# -- replicas


def node(
    services: Services, replica: int, state: DeploymentState, detail: str = "", node_id: str = "", health_url: str = ""
) -> None:
    record = services.deployments.get("default")
    assert record is not None
    assert record.desired is not None
    services.nodes.report(
        NodeReport(
            node_id=node_id or f"host-{replica}:7:1@x", deployment="default", engine=Engine.VLLM, state=state, url="http://x",
            model_id=BASE, generation=record.desired.generation, replica=replica, detail=detail, health_url=health_url,
        )
    )  # fmt: skip


@contextmanager
def engine() -> Iterator[str]:
    """The address of something that answers as engines do when asked how they are: with the code in the path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_engine_is_told_to_answer_no_longer_than_it_lives_whatever_its_node_said_last(
    client: TestClient, services: Services, put_model: PutModel
) -> None:
    put_model(BASE)
    answered(ask(client))

    def state(health_url: str, node_id: str = str(this_process())) -> str:
        node(services, 0, DeploymentState.READY, node_id=node_id, health_url=health_url)
        status = answered(client.get("/v1/deploy/status"))
        assert (status["serving"] is None) is (status["state"] == "LOADING")
        services.nodes.withdraw(node_id)
        return str(status["state"])

    with engine() as url:
        assert state(f"{url}/200") == "READY"
        assert state(f"{url}/503") == "LOADING"
    with socket.create_server(("127.0.0.1", 0)) as listens:  # and says nothing: an engine may be busy
        silent = f"http://127.0.0.1:{listens.getsockname()[1]}/health"
        assert state(silent) == "READY"
    assert state(silent) == "LOADING"  # nobody listens there any more
    assert state(silent, "elsewhere:7:1@there") == "READY"  # the loopback of another machine
    assert state("http://no-such-host.invalid/health") == "READY"  # nor is what cannot be reached dead


def test_the_status_says_how_many_replicas_there_are_to_be_how_many_answer_and_where_each_is(
    client: TestClient, services: Services, put_model: PutModel
) -> None:
    put_model(BASE)
    answered(ask(client, replicas=3))
    node(services, 1, DeploymentState.LOADING, "starting again in 2 s")
    node(services, 0, DeploymentState.READY)
    status = answered(client.get("/v1/deploy/status"))
    assert status["state"] == "READY"
    assert status["detail"] == "1 of 3 replicas answer; without an inference node: 1"
    nodes = status["replicas"].pop("nodes")
    assert status["replicas"] == {"desired": 3, "min": 3, "max": 0, "reason": "", "ready": 1}
    assert [(each["index"], each["host"], each["state"], each["detail"]) for each in nodes] == [
        (0, "host-0", "READY", ""),
        (1, "host-1", "LOADING", "starting again in 2 s"),
    ]
    node(services, 1, DeploymentState.READY)
    node(services, 2, DeploymentState.READY)
    status = answered(client.get("/v1/deploy/status"))
    assert (status["replicas"]["ready"], status["detail"]) == (3, "")


def test_a_node_that_was_killed_is_not_told_to_answer_until_its_lease_ends(
    client: TestClient, services: Services, put_model: PutModel
) -> None:
    put_model(BASE)
    answered(ask(client))
    with subprocess.Popen(["sleep", "600"]) as process:
        owner = replace(this_process(), pid=process.pid, started=started(process.pid) or "")
        node(services, 0, DeploymentState.READY, node_id=str(owner))
        assert answered(client.get("/v1/deploy/status"))["state"] == "READY"
        process.kill()
        process.wait()
    status = answered(client.get("/v1/deploy/status"))
    assert (status["state"], status["replicas"]["ready"], status["serving"]) == ("LOADING", 0, None)


def test_replicas_change_by_hand_without_a_new_version_and_stay_with_the_next_deploy(
    client: TestClient, services: Services, put_model: PutModel
) -> None:
    def change(**wanted: Any) -> httpx.Response:
        return client.patch("/v1/deployments/default/", json=wanted)

    refused(change(replicas=2), 404, "nothing is deployed")
    put_model(BASE)
    job = answered(ask(client))
    found = answered(change(replicas=2))
    assert found["status"]["replicas"]["desired"] == 2
    assert found["status"]["job"]["id"] == job["id"]
    assert len(services.jobs.all()) == 1
    answered(ask(client))
    assert answered(client.get("/v1/deployments/default"))["status"]["replicas"]["desired"] == 2
    found = answered(change(idle_after=600))
    assert (found["status"]["idle_after"], found["status"]["replicas"]["desired"]) == (600, 2)
    found = answered(change(max_replicas=4))
    assert {name: found["status"]["replicas"][name] for name in ("desired", "min", "max")} == {
        "desired": 2, "min": 2, "max": 4,
    }  # fmt: skip
    refused(change(replicas=5), 422, "replicas is 5, and max_replicas 4")
    refused(change(max_replicas=1), 422, "replicas is 2, and max_replicas 1")
    refused(ask(client, replicas=5, max_replicas=3), 422, "replicas is 5, and max_replicas 3")
    assert answered(change(replicas=5, max_replicas=0))["status"]["replicas"]["desired"] == 5
    wrongs: tuple[dict[str, Any], ...] = (
        {"replicas": 0}, {"replicas": "many"}, {"idle_after": -1}, {"max_replicas": -1},
        {"replicas": 1, "model_id": BASE},
    )  # fmt: skip
    for wrong in wrongs:
        refused(change(**wrong), 422)


# -- engine settings


def test_engine_settings_are_recorded_and_shown(client: TestClient, services: Services, put_model: PutModel) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    engine = {"dtype": "float32", "max_model_len": 64, "max_lora_rank": 16}
    answered(ask(client, engine=engine))
    record = services.deployments.get("default")
    assert record is not None
    assert record.desired is not None
    assert record.desired.settings == EngineSettings.model_validate(engine)
    shown = answered(client.get("/v1/deploy/status"))["engine"]
    assert {name: value for name, value in shown.items() if value is not None} == engine


@pytest.mark.parametrize(
    "engine",
    [{"trust_remote_code": True}, {"dtype": "int3"}, {"max_model_len": 1}, {"chat_template": "/etc/passwd"}, "--host"],
)
def test_what_is_no_engine_setting_is_refused_by_name(
    client: TestClient, services: Services, put_model: PutModel, engine: Any
) -> None:
    put_model(BASE)
    response = ask(client, engine=engine)
    refused(response, 422)
    assert response.json()["errors"][0]["loc"][:2] == ["body", "engine"]
    undisturbed(services)


def test_a_context_longer_than_the_models_is_refused(client: TestClient, put_model: PutModel) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    refused(ask(client, engine={"max_model_len": 257}), 422, "257", "at most 256")


def test_the_rank_limit_is_the_settings_of_the_deployment(
    client: TestClient, put_model: PutModel, put_adapter: PutAdapter
) -> None:
    put_model(BASE)
    put_adapter(ADAPTER, BASE, rank=32)
    refused(ask(client, ADAPTER, engine={"max_lora_rank": 16}), 422, "rank 32", "at most 16")
    answered(ask(client, ADAPTER, engine={"max_lora_rank": 32}))


# -- adapters


def test_an_adapter_that_fits_its_base_is_deployed(
    client: TestClient, put_model: PutModel, put_adapter: PutAdapter
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    put_adapter(ADAPTER, BASE)
    answered(ask(client, ADAPTER))


def test_an_adapter_whose_objects_are_not_whole_is_refused_before_an_engine_is_touched(
    client: TestClient, services: Services, put_model: PutModel, put_adapter: PutAdapter, s3: Minio
) -> None:
    put_model(BASE)
    put_adapter(ADAPTER, BASE)
    key = f"adapters/{ADAPTER}/adapter_model.safetensors"
    whole = safetensors(lora("q_proj", 8))

    def put(body: bytes) -> None:
        s3.put_object(bucket_name=ARTIFACTS, object_name=key, data=BytesIO(body), length=len(body))

    put(whole[:-1])
    refused(ask(client, ADAPTER), 422, "corrupt", f"{len(whole) - 1} bytes", f"says {len(whole)}", "Train it again")
    put(b"\xff" * len(whole))
    refused(ask(client, ADAPTER), 422, "corrupt", "header")
    s3.remove_object(bucket_name=ARTIFACTS, object_name=key)
    refused(ask(client, ADAPTER), 422, "corrupt", "missing")
    undisturbed(services)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        pytest.param(lora("q_proj", 8, inside=32), "32 numbers, and the base's has 16", id="another base, wider"),
        pytest.param(lora("q_proj", 8, out=48), "48 numbers, and the base's has 24", id="another base, taller"),
        pytest.param(lora("q_proj", 4), "rank 4, and its manifest says 8", id="another rank"),
        pytest.param({"base_model.model.lm_head.weight": (4, 4)}, "no LoRA weight", id="no adapter"),
        pytest.param(lora("q_proj", 8) | {"base_model.model.x.lora_magnitude_vector.weight": (24,)}, "DoRA", id="DoRA"),
    ],
)
def test_an_adapter_of_other_shapes_is_refused(
    client: TestClient, services: Services, put_model: PutModel, put_adapter: PutAdapter,
    shapes: dict[str, tuple[int, ...]], words: str,
) -> None:  # fmt: skip
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    put_adapter(ADAPTER, BASE, shapes=shapes)
    refused(ask(client, ADAPTER), 422, "does not fit", words)
    undisturbed(services)


def test_an_adapter_without_weights_is_none() -> None:
    assert misfit((), 8, None) == "it holds no weights"


# -- whether it fits


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """A machine of so many GiB, so many of them free: made up, since a real one cannot be filled in a test."""

    def have(total: float, free: float) -> None:
        room = Room(int(total * GIB), int(free * GIB))
        monkeypatch.setattr(machine, "look", lambda: Machine(room))

    return have


def test_what_does_not_fit_is_refused_with_the_numbers_and_changes_nothing(
    client: TestClient, services: Services, put_model: PutModel, memory: Callable[[float, float], None]
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    memory(64, 2)
    response = ask(client)
    refused(response, 409, BASE, "needs 4.", "GiB of memory", "2.0 GiB of 64.0 GiB", "undeploy")
    assert response.json()["errors"][0]["loc"] == ["fit", "memory"]
    memory(4, 4)
    refused(ask(client), 422, "4.0 GiB of 4.0 GiB")
    undisturbed(services)
    memory(64, 8)
    answered(ask(client))


def test_a_dry_run_of_a_deploy_answers_the_numbers_and_begins_nothing(
    client: TestClient, services: Services, put_model: PutModel, memory: Callable[[float, float], None]
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    put_model("acme/unknown")
    put_model("acme/bert", "BertModel")
    memory(64, 2)
    found = answered(client.post("/v1/deploy?dry_run=true", json={"model_id": BASE}))
    (need,) = found["needs"]
    assert (found["fits"], need["fits"], need["available_bytes"]) == (False, False, 2 * GIB)
    assert need["needed_bytes"] == sum(need["parts"].values()) > 4 * GIB
    found = answered(client.post("/v1/deploy?dry_run=true", json={"model_id": "acme/unknown"}))
    assert (found["fits"], found["needs"]) == (True, [])
    assert "cannot be estimated" in found["notes"][0]
    found = answered(client.put("/v1/deployments/embedding?dry_run=true", json={"model_id": "acme/bert"}))
    assert [need["resource"] for need in found["needs"]] == ["memory"]
    refused(client.post("/v1/deploy?dry_run=true", json={"model_id": "acme/none"}), 404)
    undisturbed(services)


def test_the_memory_of_what_is_replaced_counts_as_free(
    client: TestClient, services: Services, put_model: PutModel, memory: Callable[[float, float], None]
) -> None:
    for model_id in (BASE, "acme/next"):
        put_model(model_id, shapes=BASE_SHAPES, **SMALL)
    memory(64, 8)
    answered(ask(client))
    record = services.deployments.get("default")
    assert record is not None
    assert record.desired is not None
    services.deployments.settle(record.desired)
    memory(64, 2)
    refused(ask(client, model_id="acme/next"), 409, "undeploy")  # no node serves it: nothing would be freed
    services.nodes.report(
        NodeReport(
            node_id="node", deployment="default", engine=Engine.VLLM, state=DeploymentState.READY, url="http://x",
            model_id=BASE, generation=record.desired.generation,
        )
    )  # fmt: skip
    answered(ask(client, model_id="acme/next"))


def test_the_check_can_be_turned_off_for_engines_on_other_machines(
    services: Services, put_model: PutModel, memory: Callable[[float, float], None]
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    memory(1, 1)
    elsewhere = replace(services, settings=ManagementSettings(fit_check=False))
    answered(ask(TestClient(management_app(elsewhere))))


def test_what_a_ray_cluster_is_to_hold_is_told_and_not_refused(
    services: Services, put_model: PutModel, memory: Callable[[float, float], None]
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    memory(1, 1)
    on_ray = replace(services, settings=ManagementSettings(engine_ray_address="10.0.0.2:6379"))
    client = TestClient(management_app(on_ray))
    body = {"model_id": BASE, "engine": {"tensor_parallel_size": 2}}
    found = answered(client.post("/v1/deploy?dry_run=true", json=body))
    assert (found["fits"], found["needs"]) == (True, [])
    assert "of the Ray cluster: 2, with" in found["notes"][0]
    answered(ask(client))
