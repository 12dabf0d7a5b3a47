"""Inference nodes with real engines behind a real gateway and management: two for one deployment, more or none."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hearth_contracts.deploy import Engine
from hearth_contracts.jobs import JobStatus
from hearth_jobs import owners
from hearth_storage.model_store import describe_model, find_model, snapshot_path

from services.inference.tests.conftest import SUPPORT, add_model, script, wait_for
from services.management.tests.conftest import use_hub
from tests.e2e.conftest import Stage
from tests.support.hub import HubServer
from tests.support.load import Load

BASE, BERT = "tiny/llama", "tiny/bert"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A hub that has the base."""
    (tmp_path / "hub" / BASE).parent.mkdir(parents=True)
    script("training", str(SUPPORT / "tiny_llama.py"), str(tmp_path / "hub" / BASE))
    with HubServer(tmp_path / "hub") as server:
        yield server


def download(stage: Stage, model_id: str) -> None:
    """What the platform's download worker does for a model, into management's store."""
    place = stage.nodes[0]
    port = place.redis.connection_pool.connection_kwargs["port"]
    where = {"HEARTH_REDIS_URL": f"redis://127.0.0.1:{port}/0", "HEARTH_HOME": str(place.home.home)}
    command = [sys.executable, "-m", "hearth_management.downloads"]
    with subprocess.Popen(command, env={**os.environ, **where}) as worker:
        try:
            job = stage.services.jobs.get(stage.client.post(f"/v1/models/add/?model_id={model_id}").json()["id"])
            wait_for(lambda: stage.services.jobs.get(job.id).status.is_over, 60)
            assert stage.services.jobs.get(job.id).status is JobStatus.FINISHED
        finally:
            worker.terminate()


def test_a_second_host_fetches_the_model_and_no_request_without_a_byte_fails_when_the_carrier_is_killed(
    stage: Stage, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, hub.url)  # for management, which runs in this process
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    first, second = stage.nodes  # the first has management's home, the second, as on another host, an empty one
    download(stage, BASE)
    assert not second.home.models.exists()
    engine = {"dtype": "float32", "max_model_len": 256, "max_num_seqs": 8}
    with first.worker(Engine.VLLM) as one, second.worker(Engine.VLLM) as two:
        asked = {"model_id": BASE, "engine": engine, "replicas": 2}
        job = stage.client.put("/v1/deployments/default", json=asked).json()
        assert [each["index"] for each in stage.ready(2)["replicas"]["nodes"]] == [0, 1]
        here, there = (find_model(place.home.models, BASE) for place in stage.nodes)
        assert here is not None and here == there
        assert describe_model(snapshot_path(second.home.models, here)) == here.files
        owner = owners.parse(next(held.owner for held in stage.services.jobs.running() if held.job.id == job["id"]))
        assert owner is not None
        children = {each: {child.pid for child in psutil.Process(each.pid).children()} for each in (one, two)}
        carrier = next(each for each in (one, two) if owner.pid in children[each])
        with Load(stage.url, 8) as load:
            wait_for(lambda: len(load.outcomes) >= 24, 60)
            carrier.kill()
            stage.ready(1, 20)
            after = len(load.outcomes)
            wait_for(lambda: len(load.outcomes) >= after + 24, 60)
        lost = [each for each in load.outcomes if not each.whole]
        # What was on its way is cut, or told so in its stream. Nobody else notices.
        assert [each for each in lost if not each.events] == []
        assert len(lost) <= 8
        now = wait_for(lambda: (found := stage.status())["job"]["attempt"] == 2 and found, 20)
        assert (now["state"], now["job"]["status"], now["job"]["id"]) == ("READY", "RUNNING", job["id"])
        assert now["detail"] == "1 of 2 replicas answer; without an inference node: 1"
        stage.client.delete("/v1/deployments/default")
        wait_for(lambda: stage.services.jobs.get(job["id"]).status is JobStatus.KILLED, 60)
        assert [process for place in stage.nodes for process in place.processes()] == []


def test_an_engine_that_nobody_asks_ends_and_the_next_request_waits_until_one_runs_again(stage: Stage) -> None:
    place = stage.nodes[0]
    add_model(place.home, BERT, lambda folder: script("infinity", str(SUPPORT / "tiny_bert.py"), str(folder)))

    def status() -> dict[str, Any]:
        found: dict[str, Any] = stage.client.get("/v1/deployments/embedding").json()["status"]
        return found

    def ask() -> httpx.Response:
        body = {"model": "Compressa-Embedding", "input": "hello"}
        return httpx.post(f"{stage.url}/v1/embeddings", json=body, timeout=120, trust_env=False)

    with place.worker(Engine.INFINITY):
        job = stage.client.put("/v1/deployments/embedding", json={"model_id": BERT, "idle_after": 2}).json()
        assert ask().status_code == 200, "it waited for the first start as well"
        wait_for(lambda: status()["state"] == "IDLE" and not place.processes(), 30)
        assert (status()["job"]["id"], status()["job"]["status"]) == (job["id"], "RUNNING")
        with ThreadPoolExecutor(4) as clients:
            assert [reply.status_code for reply in clients.map(lambda _: ask(), range(4))] == [200] * 4
        assert status()["state"] == "READY"


def test_under_load_a_second_node_serves_beside_the_first_and_goes_again_when_the_load_is_over(stage: Stage) -> None:
    first, second = stage.nodes
    add_model(first.home, BERT, lambda folder: script("infinity", str(SUPPORT / "tiny_bert.py"), str(folder)))
    shutil.copytree(first.home.models, second.home.models)
    over, failed = threading.Event(), []
    texts = ["a sentence to be embedded " * 8] * 128

    def status() -> dict[str, Any]:
        found: dict[str, Any] = stage.client.get("/v1/deployments/embedding").json()["status"]
        return found

    def ready(count: int, seconds: float) -> dict[str, Any]:
        return wait_for(lambda: (now := status())["replicas"]["ready"] == count and now, seconds)

    def ask() -> None:
        with httpx.Client(base_url=stage.url, timeout=120, trust_env=False) as http:
            while not over.is_set():
                reply = http.post("/v1/embeddings", json={"model": "Compressa-Embedding", "input": texts})
                if reply.status_code != 200:
                    failed.append(reply.text)

    def answered(url: str) -> float:
        metrics = httpx.get(f"{url}/metrics", trust_env=False).text
        return sum(
            float(line.split()[-1]) for line in metrics.splitlines() if 'requests_total{handler="/v1/emb' in line
        )

    with first.worker(Engine.INFINITY), second.worker(Engine.INFINITY):
        stage.client.put("/v1/deployments/embedding", json={"model_id": BERT, "max_replicas": 2})
        ready(1, 120)
        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        try:
            now = ready(2, 120)
            assert "requests waited in each engine" in now["replicas"]["reason"]
            urls = [node.url for node in stage.services.nodes.live()]
            before = [answered(url) for url in urls]
            wait_for(lambda: all(answered(url) >= was + 3 for url, was in zip(urls, before, strict=True)), 60)
        finally:
            over.set()
            for client in clients:
                client.join()
        now = wait_for(lambda: (found := status())["replicas"]["desired"] == 1 and found, 60)
        assert now["replicas"]["reason"] == "for 5 s so few were enough"
        wait_for(lambda: len(status()["replicas"]["nodes"]) == 1 and len(stage.services.replicas.held()) == 1, 60)
        assert status()["state"] == "READY"
        assert failed == []
