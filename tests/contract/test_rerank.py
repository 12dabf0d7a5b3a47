"""Documents ranked by a cross-encoder that the tests made, deployed beside LLM and embeddings."""

import subprocess
from pathlib import Path

import pytest
from hearth_local.paths import env_python
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import Running

pytestmark = pytest.mark.timeout(600)

MODEL_ID = "acme/tiny-reranker"
DOCUMENTS = ["The Dodgers won it.", "It rains.", "Bread is made of flour.", "Who asks?"]


@pytest.fixture(scope="module")
def reranker(platform: Running) -> str:
    """The name it answers to, once it does."""
    folder = platform.platform.config.home / "imports" / "tiny-reranker"
    script = Path(__file__).parents[1] / "support" / "tiny_bert.py"
    subprocess.run([str(env_python("infinity")), str(script), str(folder), "--cross-encoder"], check=True, timeout=120)
    reply = platform.http.post("/api/v1/models/import/", json={"model_id": MODEL_ID, "folder": folder.name})
    assert platform.await_job(reply.json())["status"] == "FINISHED"
    reply = platform.http.put("/api/v1/deployments/rerank/", json={"model_id": MODEL_ID})
    assert reply.status_code == 200, reply.text
    for attempt in Retrying(stop=stop_after_delay(180), wait=wait_fixed(0.2), reraise=True):
        with attempt:
            names = {entry["id"] for entry in platform.http.get("/v1/models").json()["data"]}
            assert "Compressa-Rerank" in names, platform.http.get("/api/v1/deployments/rerank/").text
    return "Compressa-Rerank"


@pytest.mark.parametrize("path", ["/v1/rerank", "/api/v1/rerank/"])
def test_documents_are_ranked_by_their_relevance(platform: Running, reranker: str, path: str) -> None:
    asked = {"model": reranker, "query": "Who won the world series in 2020?", "documents": DOCUMENTS}
    reply = platform.http.post(path, json=asked)
    assert reply.status_code == 200, reply.text
    results = reply.json()["results"]
    scores = [result["relevance_score"] for result in results]
    assert sorted(result["index"] for result in results) == [0, 1, 2, 3]
    assert scores == sorted(scores, reverse=True)
    best = platform.http.post(path, json={**asked, "top_n": 2, "return_documents": True}).json()["results"]
    assert [result["index"] for result in best] == [result["index"] for result in results[:2]]
    assert all(DOCUMENTS[result["index"]] in str(result["document"]) for result in best)


def test_a_reranker_neither_embeds_nor_writes(platform: Running, reranker: str) -> None:
    for route, body in {"embeddings": {"input": "x"}, "completions": {"prompt": "x"}}.items():
        reply = platform.http.post(f"/v1/{route}", json={"model": reranker, **body})
        assert reply.status_code == 400
        assert "ranks documents" in reply.json()["error"]["message"]
