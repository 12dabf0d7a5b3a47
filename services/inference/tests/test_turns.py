"""Which worker takes a replica: real workers on hosts of their own, with a stand-in for the engine."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hearth_contracts.deploy import Engine
from hearth_contracts.jobs import JobStatus
from hearth_inference.turns import HOLDS
from hearth_jobs.alive import waiting_workers
from hearth_jobs.queues import INFERENCE_LLM
from hearth_storage.model_store import model_ids

from services.inference.tests.conftest import Place, wait_for
from services.inference.tests.nodes import ENGINE, Stage

MODEL = "acme/tiny"
pytestmark = pytest.mark.timeout(400)


@contextmanager
def hosts(stage: Stage, *names: str) -> Iterator[dict[str, Place]]:
    """A free worker on each of these hosts; the first has waited longest."""
    program = stage.root / "engine"
    program.write_text(f"#!{sys.executable}\n{ENGINE}")
    program.chmod(0o755)
    with ExitStack() as stack:
        places = {name: Place(stage.redis, stage.s3_settings, stage.home(name)) for name in names}
        for count, (name, place) in enumerate(places.items(), 1):
            stack.enter_context(place.worker(Engine.VLLM, HEARTH_ENGINE_PYTHON=str(program), HEARTH_WORKER_NAME=name))
            wait_for(lambda: len(waiting_workers(stage.redis, INFERENCE_LLM.queue, HOLDS)) == count, 30)  # noqa: B023
        yield places


def serving(stage: Stage, places: dict[str, Place]) -> list[str]:
    """The hosts on which an engine answers."""
    found = [name for name, place in places.items() if place.processes()]
    return found if len(stage.serves()) == len(found) else []


def test_a_worker_without_the_model_leaves_it_to_one_that_has_it(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    stage.put("near", model)
    with hosts(stage, "east", "west", "near") as places:
        job = stage.deploy(model)
        assert wait_for(lambda: serving(stage, places), 120) == ["near"]
        assert stage.hub.requests == []
        # as many as there are: the second has to fetch it
        stage.deployments.scale("default", 2)
        places["east"].requeue("default", Engine.VLLM)
        others = wait_for(lambda: len(found := serving(stage, places)) == 2 and found, 120)
        assert "near" in others
        assert stage.jobs.get(job.id).attempt == 1
        stage.deployments.undeploy("default")
        wait_for(lambda: stage.replicas.held() == [], 60)


def test_where_no_worker_has_the_model_one_of_them_fetches_it(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    with hosts(stage, "east", "west") as places:
        stage.deploy(model)
        (name,) = wait_for(lambda: serving(stage, places), 120)
        assert stage.is_whole(name, model)
        stage.deployments.undeploy("default")


def test_a_worker_that_cannot_get_the_model_leaves_the_replica_to_another_and_only_when_none_can_it_is_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stage.add(MODEL, 2**20)
    monkeypatch.setenv("HEARTH_FETCHED_MODELS_MAX", "1KiB")  # no room, on every host
    with hosts(stage, "east", "west") as places:
        job = stage.deploy(model)
        wait_for(lambda: stage.jobs.get(job.id).status.is_over, 120)
        failed = stage.jobs.get(job.id)
        assert (failed.status, failed.attempt) == (JobStatus.FAILED, 2), "each of them tried it, once"
        assert "HEARTH_FETCHED_MODELS_MAX" in str(failed.error)
        wait_for(lambda: len(waiting_workers(stage.redis, INFERENCE_LLM.queue, HOLDS)) == 2, 30)
        assert not any(model_ids(place.home.models) for place in places.values())
        assert stage.replicas.held() == []
