"""vLLM that ends when nobody asks: gone whole, told truly, and back with its adapters for all who ask."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from hearth_contracts.deploy import Engine
from hearth_contracts.jobs import JobStatus

from services.inference.tests.conftest import SUPPORT, Place, add_adapters, add_model, script, wait_for
from tests.e2e.conftest import Stage

BASE, ADA, BEA = "tiny/llama", "ada-1", "bea-2"
LLM = "Compressa-LLM"
ENGINE = {"dtype": "float32", "max_model_len": 256, "max_num_seqs": 8}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def place(stage: Stage) -> Place:
    """A node's home that has the base; S3 has its adapters."""
    place = stage.nodes[0]
    base = add_model(place.home, BASE, lambda folder: script("training", str(SUPPORT / "tiny_llama.py"), str(folder)))
    add_adapters(place, base, BASE, ADA, BEA)
    return place


def ask(stage: Stage, model: str) -> str:
    """What a model answers; a request waits for as long as it takes."""
    body = {"model": model, "prompt": "What is the capital", "max_tokens": 12, "temperature": 0}
    reply = httpx.post(f"{stage.url}/v1/completions", json=body, timeout=200, trust_env=False)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["text"])


def deploy(stage: Stage, *adapters: str, idle_after: int = 2) -> str:
    """The id of the job."""
    wanted = {"model_id": BASE, "adapter_ids": adapters, "engine": ENGINE, "idle_after": idle_after}
    return str(stage.client.put("/v1/deployments/default", json=wanted).json()["id"])


def until_asleep(stage: Stage, place: Place) -> None:
    """Until no process of an engine is left, and its node has said so."""

    def is_so() -> bool:
        now = stage.status()
        is_told = now["state"] == "IDLE" and now["replicas"]["nodes"] == []
        return is_told and now["job"]["stage"].startswith("waiting for a request") and not place.processes()

    wait_for(is_so, 60)


@contextmanager
def told(stage: Stage) -> Iterator[list[str]]:
    """Each state that the status goes through meanwhile."""
    states: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            now = stage.status()
            assert (now["state"] == "READY") == (now["replicas"]["ready"] == 1) == (now["serving"] is not None), now
            if states[-1:] != [now["state"]]:
                states.append(now["state"])

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield states
        finally:
            over.set()
            looking.result()


def test_all_who_ask_while_it_wakes_are_answered_adapters_too_and_a_node_killed_meanwhile_costs_nobody_an_answer(
    stage: Stage, place: Place
) -> None:
    names = (LLM, ADA, BEA)
    with place.worker(Engine.VLLM) as worker:
        job = deploy(stage, ADA, BEA)
        said = {name: ask(stage, name) for name in names}
        assert len(set(said.values())) == len(names)
        until_asleep(stage, place)
        now = stage.status()
        assert (now["serving"], now["replicas"]["ready"]) == (None, 0)
        assert (now["job"]["id"], now["job"]["status"]) == (job, "RUNNING")

        # all at once
        with told(stage) as states, ThreadPoolExecutor(9) as clients:
            answers = list(clients.map(lambda name: (name, ask(stage, name)), names * 3))
        assert answers == [(name, said[name]) for name in names * 3]
        assert states in (["IDLE", "LOADING", "READY"], ["LOADING", "READY"])

        # its node is killed -9 while it wakes
        until_asleep(stage, place)
        with ThreadPoolExecutor(2) as clients:
            waiting = [clients.submit(ask, stage, name) for name in (LLM, ADA)]
            wait_for(lambda: any("serve" in process.cmdline() for process in place.processes()), 30)
            worker.kill()
            worker.wait()
            wait_for(lambda: not place.processes(), 20)
            assert stage.status()["state"] == "LOADING"
            with place.worker(Engine.VLLM):
                assert [each.result() for each in waiting] == [said[LLM], said[ADA]]
                assert stage.status()["job"]["id"] == job
                stage.client.delete("/v1/deployments/default")
                wait_for(lambda: stage.services.jobs.get(job).status is JobStatus.KILLED, 60)


def test_what_is_changed_or_undeployed_while_it_sleeps_is_so_at_once_and_leaves_nothing(
    stage: Stage, place: Place
) -> None:
    with place.worker(Engine.VLLM):
        first = deploy(stage, ADA)
        base, ada = ask(stage, LLM), ask(stage, ADA)
        until_asleep(stage, place)

        # another adapter: the new version starts, and is proven, without being asked
        second = deploy(stage, BEA)
        wait_for(lambda: stage.status()["job"]["id"] == second and stage.status()["state"] == "READY", 120)
        wait_for(lambda: stage.services.jobs.get(first).status is JobStatus.FINISHED, 10)
        assert ask(stage, LLM) == base
        assert ask(stage, BEA) not in (base, ada)
        until_asleep(stage, place)

        # never asleep from now on
        stage.client.patch("/v1/deployments/default", json={"idle_after": 0})
        stage.ready(1)
        stage.client.patch("/v1/deployments/default", json={"idle_after": 2})
        until_asleep(stage, place)

        # undeployed
        assert stage.client.delete("/v1/deployments/default").status_code == 200
        wait_for(lambda: stage.services.jobs.get(second).status is JobStatus.KILLED, 5)
        assert stage.client.get("/v1/deploy/status").status_code == 404
        body = {"model": LLM, "prompt": "Hello"}
        refused = httpx.post(f"{stage.url}/v1/completions", json=body, timeout=30, trust_env=False)
        assert refused.status_code == 404
        assert stage.services.replicas.held() == []
        assert place.processes() == []
