"""First tokens of a deployment that scales by load are counted, and brought to Redis beside the requests."""

import json

import pytest
from hearth_contracts.deploy import Engine
from hearth_jobs import first_tokens
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.store import JobStore
from redis import Redis

from services.gateway.tests.conftest import Place, asking

CHAT = "/v1/chat/completions"


def count(redis: Redis) -> int:
    """Of all the time that Redis has."""
    found = redis.keys("hearth:first-tokens:default:*")
    return sum(int(value) for key in found for value in redis.hgetall(key).values())


@pytest.fixture
def store(place: Place) -> DeploymentStore:
    store = DeploymentStore(place.redis, JobStore(place.redis))
    store.desire("default", engine=Engine.VLLM, model_id="org/base", adapter_ids=(), served_name="LLM", max_replicas=2)
    engine = place.serve("stream")
    engine.go_on.set()
    place.report(engine, "LLM")
    place.eventually(lambda: place.gateway.router.table.scaled == {"default"})
    return store


def stream(place: Place) -> None:
    assert place.http.post(CHAT, content=json.dumps({"model": "LLM", "stream": True})).status_code == 200


def test_each_stream_counts_once_and_no_other_answer_does(place: Place, store: DeploymentStore) -> None:
    for _ in range(5):
        stream(place)
    place.eventually(lambda: count(place.redis) == 5)
    counts = first_tokens.lately(place.redis, "default", store.clock())
    assert sum(counts.by_bucket[:8]) == 5, "they came within a second"
    echo = place.serve()
    place.report(echo, "Other")
    assert place.http.post(CHAT, content=asking("Other")).status_code == 200
    turn = place.gateway.router.table
    place.eventually(lambda: place.gateway.router.table is not turn)
    assert count(place.redis) == 5


def test_those_of_a_deployment_that_does_not_scale_by_load_are_not_counted(
    place: Place, store: DeploymentStore
) -> None:
    store.scale("default", max_replicas=0)
    place.eventually(lambda: not place.gateway.router.table.scaled)
    stream(place)
    assert place.gateway.router.first_tokens == {}
