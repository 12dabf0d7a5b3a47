"""Deployments that sleep when nobody asks: requests are held until an engine runs, within bounds."""

import json
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from hearth_access.key_store import KeyStore
from hearth_contracts.access import KeyRequest
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.queues import INFERENCE_LLM, counted
from hearth_jobs.store import JobStore

from services.gateway.tests.conftest import Place, asking

CHAT = "/v1/chat/completions"


@pytest.fixture
def store(place: Place) -> DeploymentStore:
    return DeploymentStore(place.redis, JobStore(place.redis))


@pytest.fixture
def asleep(place: Place, store: DeploymentStore) -> DeploymentSpec:
    """An LLM that served, and sleeps; the gateway knows."""
    spec, _ = store.desire(
        "default", engine=Engine.VLLM, model_id="org/base", adapter_ids=("ada",), served_name="LLM", idle_after=60
    )
    store.settle(spec)
    store.sleep(spec)
    place.eventually(lambda: place.gateway.router.table.asleep == {"default"})
    return spec


@pytest.fixture
def ask(place: Place) -> Iterator[Callable[..., threading.Thread]]:
    """Ask in a thread; the replies come into a list."""
    threads = []

    def begin(replies: list[httpx.Response], model: str = "LLM", **headers: str) -> threading.Thread:
        def run() -> None:
            replies.append(place.http.post(CHAT, content=asking(model), headers=headers))

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield begin
    for thread in threads:
        thread.join()


def is_asleep(store: DeploymentStore) -> bool:
    record = store.get("default")
    assert record is not None
    return record.is_asleep


def test_requests_to_what_sleeps_wake_it_and_are_answered_by_the_engine_that_starts(
    place: Place, store: DeploymentStore, asleep: DeploymentSpec, ask: Callable[..., threading.Thread]
) -> None:
    before = counted(place.redis, INFERENCE_LLM)["default"]
    replies: list[httpx.Response] = []
    threads = [ask(replies), ask(replies, "ada")]
    place.eventually(lambda: not is_asleep(store))
    assert counted(place.redis, INFERENCE_LLM)["default"] == before + 1
    assert replies == []
    place.report(place.serve(), "LLM", "ada", adapter_ids=("ada",))
    for thread in threads:
        thread.join()
    assert sorted(reply.json()["model"] for reply in replies) == ["LLM", "ada"]


def test_what_sleeps_is_listed_with_the_models(place: Place, asleep: DeploymentSpec) -> None:
    listed = place.http.get("/v1/models").json()["data"]
    assert [(each["id"], each["parent"]) for each in listed] == [("LLM", None), ("ada", "org/base"), ("org/base", None)]


@pytest.mark.parametrize("limits", [{"wake_seconds": 0.5, "wake_requests": 2}], indirect=True)
def test_a_request_waits_for_so_long_only_and_not_beside_too_many(
    place: Place, asleep: DeploymentSpec, ask: Callable[..., threading.Thread]
) -> None:
    replies: list[httpx.Response] = []
    threads = [ask(replies), ask(replies)]
    place.eventually(lambda: place.gateway.tokens._waiting == 2)
    third = place.http.post(CHAT, content=asking("LLM"))
    assert (third.status_code, third.headers["retry-after"]) == (503, "2")
    for thread in threads:
        thread.join()
    assert [(each.status_code, each.json()["error"]["code"]) for each in replies] == [(503, "model_loading")] * 2
    assert place.gateway.tokens._waiting == 0


def test_a_client_that_leaves_while_it_waits_is_forgotten(place: Place, asleep: DeploymentSpec) -> None:
    with pytest.raises(httpx.ReadTimeout):
        place.http.post(CHAT, content=asking("LLM"), timeout=0.3)
    place.eventually(lambda: place.gateway.tokens._waiting == 0)


def test_a_request_that_waits_is_refused_when_the_deployment_is_given_up(
    place: Place, store: DeploymentStore, asleep: DeploymentSpec, ask: Callable[..., threading.Thread]
) -> None:
    replies: list[httpx.Response] = []
    thread = ask(replies)
    place.eventually(lambda: place.gateway.tokens._waiting == 1)
    assert store.give_up(asleep, "its weights are gone")
    thread.join()
    assert replies[0].status_code == 404


def test_neither_a_key_for_other_models_nor_a_route_of_another_task_wakes_it(
    place: Place, store: DeploymentStore, asleep: DeploymentSpec
) -> None:
    assert place.http.post("/v1/embeddings", content=asking("LLM")).status_code == 400
    key = KeyStore(place.redis).create(KeyRequest(name="other", models=("Other",)))
    place.eventually(lambda: place.gateway.door.loaded and not place.gateway.door.open)
    headers = {"authorization": f"Bearer {key.secret}"}
    assert place.http.post(CHAT, content=asking("LLM"), headers=headers).status_code == 403
    assert place.gateway.router.asked == set()
    assert is_asleep(store)


def test_only_what_may_sleep_is_noted_as_asked_for_and_a_long_answer_keeps_it_awake(
    place: Place, store: DeploymentStore
) -> None:
    spec, _ = store.desire("default", engine=Engine.VLLM, model_id="org/base", adapter_ids=(), served_name="LLM")
    engine = place.serve("stream")
    place.report(engine, "LLM", state=DeploymentState.READY)
    noted = place.redis.hget("hearth:asked", "default")
    with place.http.stream("POST", CHAT, content=json.dumps({"model": "LLM", "stream": True})) as reply:
        events = reply.iter_raw()
        next(events)
        turn = place.gateway.router.table
        place.eventually(lambda: place.gateway.router.table is not turn)
        assert place.redis.hget("hearth:asked", "default") == noted
        store.scale("default", idle_after=60)
        place.eventually(lambda: "LLM" in place.gateway.router.table.may_sleep)
        noted = place.redis.hget("hearth:asked", "default")
        for _ in range(2):  # again and again, though the request came long ago
            place.eventually(lambda: place.redis.hget("hearth:asked", "default") != noted)  # noqa: B023
            noted = place.redis.hget("hearth:asked", "default")
        engine.go_on.set()
        assert b"[DONE]" in b"".join(events)
    assert spec.generation == 1
