"""What a run asks for of a Ray cluster: refused before it is queued where it cannot be had."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.names import new_id
from hearth_jobs.queues import TRAINING
from hearth_jobs.worker import HearthWorker
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
    lane = Queue(TRAINING.queue, connection=services.redis)
    worker = HearthWorker([lane], name=f"training@{executor}", connection=services.redis)
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
