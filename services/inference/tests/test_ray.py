"""One engine whose parts are on two nodes of a Ray cluster: real vLLM, real Ray, on loopback."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_contracts.engine import EngineSettings
from hearth_contracts.jobs import JobStatus
from hearth_jobs.guard import descendants

from services.inference.tests.conftest import SUPPORT, Place, add_adapters, add_model, complete, script, wait_for
from tests.support.ray_nodes import RayCluster, ray_cluster

BASE = "tiny/llama"
ADAPTER = "ada-1"
WHOLE = EngineSettings(dtype="float32", enforce_eager=True)
HALVES = WHOLE.model_copy(update={"tensor_parallel_size": 2})
STAGES = WHOLE.model_copy(update={"pipeline_parallel_size": 2})
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def shelf(place: Place) -> Place:
    base = add_model(place.home, BASE, lambda folder: script("training", str(SUPPORT / "tiny_llama.py"), str(folder)))
    add_adapters(place, base, BASE, ADAPTER)
    return place


@pytest.fixture(scope="module")
def says(shelf: Place) -> dict[str, str]:
    """What an engine in one piece says."""
    with shelf.worker(Engine.VLLM):
        job = shelf.deploy(BASE, ADAPTER, settings=WHOLE)
        said = said_by(shelf.ready(job))
        shelf.deployments.undeploy("default")
        shelf.over(job)
    assert said["LLM"] != said[ADAPTER]
    return said


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(nodes=2, environment="vllm", resources={"vllm_cpu": 1}) as cluster:
        yield cluster


def said_by(report: NodeReport) -> dict[str, str]:
    """What an engine says as the base and as the adapter."""
    replies = {model: complete(report, model) for model in ("LLM", ADAPTER)}
    assert all(reply.status_code == 200 for reply in replies.values()), replies
    return {model: str(reply.json()["choices"][0]["text"]) for model, reply in replies.items()}


def parts(cluster: RayCluster) -> list[int]:
    """How many of a model's parts each living node has."""
    found = []
    for node in cluster.nodes:
        if node.poll() is None:
            names = []
            for pid in descendants(node.pid):
                with suppress(psutil.Error):
                    names.append(" ".join(psutil.Process(pid).cmdline()))
            found.append(sum(name.startswith(("ray::CpuWorker", "ray::vllm_Worker")) for name in names))
    return found


def test_tensors_are_shared_by_two_nodes_and_the_engine_waits_for_another_where_one_is_lost(
    shelf: Place, says: dict[str, str], cluster: RayCluster
) -> None:
    with shelf.worker(Engine.VLLM, HEARTH_ENGINE_RAY_ADDRESS=cluster.address):
        job = shelf.deploy(BASE, ADAPTER, settings=HALVES)
        report = shelf.ready(job)
        assert parts(cluster) == [1, 1]
        assert said_by(report) == says

        cluster.lose(cluster.nodes[1])
        wait_for(lambda: (r := shelf.report()) and r.state is not DeploymentState.READY, 60)
        wait_for(lambda: shelf.jobs.get(job.id).stage == "waiting for room on the Ray cluster", 120)
        cluster.start_node()
        assert said_by(shelf.ready(job)) == says
        assert parts(cluster) == [1, 1]

        shelf.deployments.undeploy("default")
        assert shelf.over(job).status is JobStatus.KILLED
        wait_for(lambda: parts(cluster) == [0, 0], 20)


def test_layers_are_shared_by_two_nodes_and_a_killed_worker_leaves_no_part_behind(
    shelf: Place, says: dict[str, str], cluster: RayCluster
) -> None:
    with shelf.worker(Engine.VLLM, HEARTH_ENGINE_RAY_ADDRESS=cluster.address) as worker:
        job = shelf.deploy(BASE, ADAPTER, settings=STAGES)
        assert said_by(shelf.ready(job)) == says
        assert parts(cluster) == [1, 1]
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: parts(cluster) == [0, 0], 60)
    shelf.deployments.undeploy("default")
    shelf.bury_the_dead()
