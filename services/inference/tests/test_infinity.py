"""infinity through a real worker: deployed, asked, undeployed; tokens are counted as tokens."""

from collections.abc import Iterator

import httpx
import pytest
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport, Task
from hearth_contracts.jobs import Job, JobStatus

from services.inference.tests.conftest import SUPPORT, Place, add_model, script, wait_for

BERT = "tiny/bert"
RERANKER = "tiny/reranker"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[None]:
    add_model(place.home, BERT, lambda folder: script("infinity", str(SUPPORT / "tiny_bert.py"), str(folder)))
    add_model(
        place.home,
        RERANKER,
        lambda folder: script("infinity", str(SUPPORT / "tiny_bert.py"), str(folder), "--cross-encoder"),
    )
    with place.worker(Engine.INFINITY):
        yield


def deploy(place: Place, model_id: str) -> tuple[Job, NodeReport]:
    job = place.deploy(model_id, name="embedding", engine=Engine.INFINITY)
    return job, place.ready(job)


@pytest.mark.usefixtures("worker")
def test_embeddings_are_served_then_replaced_then_undeployed(place: Place) -> None:
    job, report = deploy(place, BERT)
    assert report.models == ("Emb", BERT)
    texts = ["hello world", "a"]
    for name in report.models:
        reply = httpx.post(f"{report.url}/v1/embeddings", json={"model": name, "input": texts}).json()
        assert [len(row["embedding"]) for row in reply["data"]] == [32, 32]
    letters = sum(len(text.replace(" ", "")) for text in texts)  # this model spells: a token a letter
    assert reply["usage"] == {"prompt_tokens": letters, "total_tokens": letters}

    second, report = deploy(place, RERANKER)
    assert place.over(job).status is JobStatus.FINISHED
    body = {"model": "Emb", "query": "a", "documents": ["a", "b"]}
    assert len(httpx.post(f"{report.url}/v1/rerank", json=body).json()["results"]) == 2

    place.deployments.undeploy("embedding")
    assert place.over(second).status is JobStatus.KILLED
    assert place.report() is None
    assert place.processes() == []


@pytest.mark.usefixtures("worker")
def test_a_reranker_is_served_beside_the_embeddings_by_a_second_worker(place: Place) -> None:
    with place.worker(Engine.INFINITY, HEARTH_WORKER_NAME="inference-rerank"):
        place.deploy(BERT, name="embedding", engine=Engine.INFINITY)
        place.deployments.desire(
            "rerank", engine=Engine.INFINITY, task=Task.RERANK, model_id=RERANKER, adapter_ids=(), served_name="Rank"
        )

        def both() -> dict[Task, NodeReport] | None:
            ready = {node.task: node for node in place.nodes.live() if node.state is DeploymentState.READY}
            return ready if len(ready) == 2 else None

        served = wait_for(both, 90)
        assert served[Task.EMBED].deployment == "embedding"
        assert served[Task.RERANK].models == ("Rank", RERANKER)
        body = {"model": "Rank", "query": "a", "documents": ["a", "b"]}
        assert len(httpx.post(f"{served[Task.RERANK].url}/v1/rerank", json=body).json()["results"]) == 2
        for name in ("embedding", "rerank"):
            place.deployments.undeploy(name)
        wait_for(lambda: not place.nodes.live(), 40)


@pytest.mark.usefixtures("worker")
def test_a_model_that_was_deleted_fails_with_words(place: Place) -> None:
    job = place.deploy("tiny/nowhere", name="embedding", engine=Engine.INFINITY)
    ended = place.over(job)
    assert ended.status is JobStatus.FAILED
    assert "not in the model store" in str(ended.error)
