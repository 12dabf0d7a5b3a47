"""The machine's figures over the API."""

from fastapi.testclient import TestClient
from hearth_contracts.jobs import JobKind
from hearth_jobs.queues import DOWNLOADS, enqueue, transaction
from hearth_management.services import Services

from services.management.tests.conftest import answered


def test_the_machine_and_its_queues_are_told(client: TestClient, services: Services) -> None:
    (services.home.imports / "a-model").mkdir()
    (services.home.imports / ".hidden").mkdir()
    pipe = transaction(services.redis)
    job = services.jobs.create(pipe, kind=JobKind.DOWNLOAD, name="DOWNLOAD_x", subject="x")
    pipe.execute()
    enqueue(services.redis, DOWNLOADS, job.id)
    told = answered(client.get("/v1/system/"))
    for space in (told["memory"], told["disk"], *told["gpus"]):
        assert 0 <= space["free_bytes"] <= space["total_bytes"]
    assert told["memory"]["total_bytes"] > 0
    queues = {each["queue"]: (each["waiting"], each["workers"]) for each in told["queues"]}
    assert queues["downloads"] == (1, 0)
    assert set(queues) == {"downloads", "training", "inference-llm", "inference-embedding"}
    assert told["imports"] == ["a-model"]
