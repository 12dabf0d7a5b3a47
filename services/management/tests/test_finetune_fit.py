"""Whether a fine-tune fits, asked before anything of it is recorded."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from hearth_contracts.names import new_id
from hearth_fit import machine
from hearth_fit.machine import Machine, Room
from hearth_management.services import Services

from services.management.tests.conftest import BASE_SHAPES, SMALL, answered, refused

BASE = "acme/llm"
GIB = 2**30


def test_a_fine_tune_that_does_not_fit_is_refused_and_a_dry_run_tells_its_numbers(
    client: TestClient,
    services: Services,
    put_model: Callable[..., None],
    put_dataset: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    put_dataset(dataset_id := new_id())
    body = {"name": "t", "model_id": BASE, "dataset_id": dataset_id}
    monkeypatch.setattr(machine, "look", lambda: Machine(Room(8 * GIB, GIB // 2)))
    found = answered(client.post("/v1/finetune?dry_run=true", json=body))
    memory, disk = found["needs"]
    assert (found["fits"], memory["resource"], memory["fits"], disk["fits"]) == (False, "memory", False, True)
    assert memory["needed_bytes"] == sum(memory["parts"].values()) > GIB
    refused(client.post("/v1/finetune", json=body), 409, "training on acme/llm does not fit", "0.5 GiB of 8.0 GiB")
    assert services.jobs.all() == []

    monkeypatch.setattr(machine, "look", lambda: Machine(Room(8 * GIB, 4 * GIB)))
    first = answered(client.post("/v1/finetune", json=body))
    services.jobs.claim(first["id"], "worker")
    monkeypatch.setattr(machine, "look", lambda: Machine(Room(8 * GIB, GIB // 2)))
    answered(client.post("/v1/finetune", json=body))  # the other one's memory is free when this one begins


def test_resuming_asks_again_whether_it_fits(
    client: TestClient,
    services: Services,
    put_model: Callable[..., None],
    put_dataset: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_model(BASE, shapes=BASE_SHAPES, **SMALL)
    put_dataset(dataset_id := new_id())
    monkeypatch.setattr(machine, "look", lambda: Machine(Room(8 * GIB, 4 * GIB)))
    answered(client.post("/v1/finetune", json={"name": "t", "model_id": BASE, "dataset_id": dataset_id}))
    answered(client.post("/v1/finetune/interrupt"))
    finetune_id = answered(client.get("/v1/finetune/status"))["id"]

    monkeypatch.setattr(machine, "look", lambda: Machine(Room(8 * GIB, GIB // 2)))
    resume = f"/v1/finetune/{finetune_id}/resume"
    refused(client.post(resume), 409, "training on acme/llm does not fit", "0.5 GiB of 8.0 GiB")
    assert len(services.jobs.all()) == 1
    monkeypatch.setattr(machine, "look", lambda: Machine(Room(8 * GIB, 4 * GIB)))
    assert answered(client.post(resume))["status"] == "CREATED"
