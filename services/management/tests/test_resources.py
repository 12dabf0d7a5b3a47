"""What a run asks for of a Ray cluster: refused before it is queued where it cannot be had, and settled."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.finetune import Resources
from hearth_contracts.fit import Need, Resource
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.names import new_id
from hearth_jobs.queues import TRAINING, TRAINING_ON_A_CLUSTER, counted, waiting
from hearth_jobs.worker import HearthWorker
from hearth_management.reconciler import reconcile_jobs
from hearth_management.resources import settled
from hearth_management.services import Services
from rq import Queue

from services.management.tests.conftest import answered, refused

BASE = "acme/llm"
TWO = {"workers": 2}


@pytest.fixture
def begin(
    client: TestClient, put_model: Callable[..., None], put_dataset: Callable[[str], None]
) -> Callable[[dict[str, Any]], httpx.Response]:
    """Ask for a fine-tune with these resources."""
    put_model(BASE)
    put_dataset(dataset_id := new_id())

    def ask(resources: dict[str, Any], **fields: Any) -> httpx.Response:
        body = {"name": "t", "model_id": BASE, "dataset_id": dataset_id, "resources": resources, **fields}
        return client.post("/v1/finetune/", json=body)

    return ask


def at_work(services: Services, executor: str) -> None:
    """Register a training worker that says how its runs are done."""
    lanes = (TRAINING_ON_A_CLUSTER, TRAINING) if executor == "ray" else (TRAINING,)
    queues = [Queue(lane.queue, connection=services.redis) for lane in lanes]
    worker = HearthWorker(queues, name=f"training@{executor}", connection=services.redis)
    worker.says = lambda: {"executor": executor}
    worker.register_birth()


def test_where_every_training_worker_trains_on_its_own_machine_resources_are_refused(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    answered(begin(TWO))  # nobody is at work yet, so nobody can tell
    before = answered(client.post("/v1/finetune/interrupt"))
    assert before["status"] == "KILLED"
    at_work(services, "local")

    refused(begin(TWO), 422, "HEARTH_TRAINING_EXECUTOR=ray")
    refused(client.post(f"/v1/finetune/{answered(client.get('/v1/finetune/status'))['id']}/resume"), 422, "Ray cluster")
    assert len(services.jobs.all()) == 1
    answered(begin({}))

    at_work(services, "ray")
    answered(begin(TWO))


@pytest.mark.parametrize(
    "spelt_out",
    [{"workers": 1}, {"cpus_per_worker": 1}, {"gpus_per_worker": None}, {"sharding": None}, {"sharding": "none"}],
)
def test_what_is_so_anyway_may_be_said(
    begin: Callable[..., httpx.Response], services: Services, spelt_out: dict[str, Any]
) -> None:
    at_work(services, "local")
    job = answered(begin(spelt_out))
    assert waiting(services.redis, TRAINING) == {job["id"]}


@pytest.mark.parametrize("asked", [TWO, {"gpus_per_worker": 0}, {"gpus_per_worker": 1}, {"cpus_per_worker": 2}])
def test_what_a_cluster_alone_can_give_waits_for_a_worker_that_has_one(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services, asked: dict[str, Any]
) -> None:
    at_work(services, "local")
    at_work(services, "ray")
    job = answered(begin(asked))
    assert waiting(services.redis, TRAINING_ON_A_CLUSTER) == {job["id"]}
    assert waiting(services.redis, TRAINING) == set()

    answered(client.post("/v1/finetune/interrupt"))
    again = answered(client.post(f"/v1/finetune/{answered(client.get('/v1/finetune/status'))['id']}/resume"))
    assert again["id"] in waiting(services.redis, TRAINING_ON_A_CLUSTER)


def test_the_queue_of_a_cluster_is_told_of_where_there_is_one_or_a_run_waits_for_one(
    begin: Callable[..., httpx.Response], client: TestClient, services: Services
) -> None:
    def queues() -> dict[str, tuple[int, int]]:
        told = answered(client.get("/v1/system"))["queues"]
        return {each["queue"]: (each["waiting"], each["workers"]) for each in told}

    answered(begin({}))
    assert "training-cluster" not in queues()  # or a platform without Ray would seem unwell for ever
    answered(begin(TWO))
    at_work(services, "local")
    assert queues()["training-cluster"] == (1, 0)
    at_work(services, "ray")
    assert queues()["training-cluster"] == (1, 1)


def test_the_reconciler_queues_it_there_too(begin: Callable[..., httpx.Response], services: Services) -> None:
    job = answered(begin(TWO))
    Queue(TRAINING_ON_A_CLUSTER.queue, connection=services.redis).empty()
    reconcile_jobs(services)
    assert waiting(services.redis, TRAINING_ON_A_CLUSTER) == {job["id"]}
    reconcile_jobs(services)  # it is found there
    assert counted(services.redis, TRAINING_ON_A_CLUSTER) == {job["id"]: 1}


@pytest.mark.parametrize(
    ("resources", "settings", "words"),
    [
        ({"sharding": "full"}, {}, "two or more"),
        ({"workers": 2, "sharding": "full"}, {"load_in_4bit": True}, "does not go with load_in_4bit"),
        ({"workers": 2, "sharding": "full"}, {"use_dora": True}, "does not go with use_dora"),
        ({"workers": 2, "sharding": "half"}, {}, "none"),
    ],
)
def test_sharding_that_cannot_be_is_refused_in_words(
    begin: Callable[..., httpx.Response],
    services: Services,
    resources: dict[str, Any],
    settings: dict[str, Any],
    words: str,
) -> None:
    refused(begin(resources, hyperparameters=settings), 422, words)
    assert services.jobs.all() == []


def need(gib: int, resource: Resource = Resource.GPU_MEMORY) -> Need:
    """So much of a machine's 80 GiB."""
    return Need(
        resource=resource, needed_bytes=gib * 2**30, parts={}, available_bytes=0, total_bytes=80 * 2**30, fits=False
    )


@pytest.mark.parametrize(
    ("needs", "asked", "settings", "sharding"),
    [
        ([need(140)], {}, {}, "full"),
        ([need(20)], {}, {}, "none"),  # also where another run fills the GPU now
        ([need(140, Resource.MEMORY)], {}, {}, "none"),  # CPUs of one machine share its memory anyway
        ([need(140)], {"gpus_per_worker": 0}, {}, "none"),
        ([need(140)], {}, {"load_in_4bit": True}, "none"),
        ([], {}, {}, "none"),
    ],
)
def test_a_base_is_sharded_where_one_gpu_could_not_hold_it(
    needs: list[Need], asked: dict[str, Any], settings: dict[str, Any], sharding: str
) -> None:
    found = settled(Hyperparameters(**settings), Resources(workers=4, **asked), needs)
    assert found == Resources(workers=4, sharding=sharding, **asked)
