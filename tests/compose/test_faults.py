"""Two inference nodes and two trainers in containers: one dies under load, the stores and services are started anew."""

import os
import signal
import subprocess
from typing import Any

import openai
import pytest
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import CONVERSATIONS, Running
from tests.support.containers import Compose
from tests.support.load import Load

pytestmark = pytest.mark.timeout(600)


def until(condition: Any, seconds: float) -> Any:
    """What it gives, once that is true."""
    for attempt in Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.2), reraise=True):
        with attempt:
            found = condition()
            assert found, condition
    return found


@pytest.fixture(scope="session")
def two(compose: Compose, platform: Running, deployed: dict[str, Any]) -> dict[str, Any]:
    """The deployment's status, as two nodes serve it; and there are two trainers."""
    compose.up("inference-llm=2", "training=2")
    assert platform.http.patch("/api/v1/deployments/default/", json={"replicas": 2}).status_code == 200
    return await_replicas(platform, 2)


def await_replicas(platform: Running, count: int, seconds: float = 240) -> dict[str, Any]:
    status: dict[str, Any] = {}

    def ready() -> bool:
        status.update(platform.http.get("/api/v1/deploy/status/").json())
        return bool(status["replicas"]["ready"] == count)

    until(ready, seconds)
    return status


def processes(box: dict[str, Any]) -> str:
    """The command lines of what runs in a container."""
    return subprocess.run(["docker", "top", box["Id"], "-eo", "pid,args"], capture_output=True, text=True).stdout


def knows(platform: Running, adapter_id: str, taught: list[tuple[str, str]]) -> bool:
    """Whether the adapter answers, and what it was taught."""
    client = openai.OpenAI(base_url=f"{platform.url}/v1", api_key="unused", max_retries=0)
    question, answer = taught[0]
    messages = [{"role": "user", "content": question}]
    try:
        reply = client.chat.completions.create(model=adapter_id, messages=messages, max_tokens=40, temperature=0)  # type: ignore[arg-type]
    except openai.OpenAIError:
        return False
    return str(reply.choices[0].message.content).strip() == answer


def test_no_request_that_had_no_byte_fails_when_a_container_dies_and_the_engine_starts_it_anew(
    compose: Compose, platform: Running, two: dict[str, Any], adapter_id: str, taught: list[tuple[str, str]]
) -> None:
    hosts = {each["host"] for each in two["replicas"]["nodes"]}
    assert len(hosts) == 2
    with Load(platform.url, 8) as load:
        until(lambda: len(load.outcomes) >= 24, 60)
        compose.kill("inference-llm")
        await_replicas(platform, 1, 20)
        after = len(load.outcomes)
        until(lambda: len(load.outcomes) >= after + 24, 60)
        await_replicas(platform, 2)
    lost = [each for each in load.outcomes if not each.whole]
    print(f"{len(load.outcomes)} requests, cut in their answer: {len(lost)}")
    assert [each for each in lost if not each.events] == []
    assert len(lost) <= 8
    assert knows(platform, adapter_id, taught)


@pytest.mark.parametrize("service", ["redis", "seaweedfs", "management", "gateway", "dataset"])
@pytest.mark.parametrize("how", ["restart", "kill -9"])
def test_all_is_well_again_after_one_container_is_started_anew(
    compose: Compose, platform: Running, two: dict[str, Any], adapter_id: str, taught: list[tuple[str, str]],
    service: str, how: str,
) -> None:  # fmt: skip
    if how == "restart":
        compose.run("restart", "--timeout", "10", service)
    else:
        before = compose.containers(service)[0]["State"]["StartedAt"]
        compose.kill(service)
        until(lambda: compose.containers(service)[0]["State"]["StartedAt"] != before, 30)
    compose.await_healthy()
    until(lambda: knows(platform, adapter_id, taught), 60)
    await_replicas(platform, 2)
    until(lambda: upload(platform) == 200, 30)


def upload(platform: Running) -> int:
    with CONVERSATIONS.open("rb") as file:
        return platform.http.post("/api/v1/datasets/upload/", files={"file": ("train.jsonl", file)}).status_code


def test_a_fine_tune_whose_trainer_is_killed_is_carried_on_by_the_other(
    compose: Compose, platform: Running, two: dict[str, Any], model_id: str, dataset_id: str
) -> None:
    job = begin(platform, "killed", model_id, dataset_id, 400)
    now = lambda: platform.http.get(f"/api/v1/jobs/{job['id']}/status/").json()  # noqa: E731
    until(lambda: now()["progress"] > 0.2, 120)
    working = [box for box in compose.containers("training") if "/opt/trainer/" in processes(box)]
    assert len(working) == 1
    os.kill(working[0]["State"]["Pid"], signal.SIGKILL)
    until(lambda: (now()["status"], now()["attempt"]) == ("FINISHED", 2), 240)
    compose.await_healthy()


def begin(platform: Running, name: str, model_id: str, dataset_id: str, steps: int) -> dict[str, Any]:
    """A fine-tune's job."""
    body = {"name": name, "model_id": model_id, "dataset_id": dataset_id, "hyperparameters": {"max_steps": steps}}
    reply = platform.http.post("/api/v1/finetune/", json=body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_two_trainers_train_at_the_same_time(
    platform: Running, two: dict[str, Any], model_id: str, dataset_id: str
) -> None:
    begun = [begin(platform, name, model_id, dataset_id, 200)["id"] for name in ("one", "two")]
    jobs = lambda: [platform.http.get(f"/api/v1/jobs/{each}/status/").json() for each in begun]  # noqa: E731
    until(lambda: [each["status"] for each in jobs()] == ["RUNNING", "RUNNING"], 60)
    until(lambda: [each["status"] for each in jobs()] == ["FINISHED", "FINISHED"], 240)


def test_an_engine_that_nobody_asks_ends_and_the_next_request_waits_for_one(
    compose: Compose, platform: Running, two: dict[str, Any], adapter_id: str, taught: list[tuple[str, str]]
) -> None:
    def scale(seconds: int) -> None:
        reply = platform.http.patch("/api/v1/deployments/default/", json={"idle_after": seconds})
        assert reply.status_code == 200, reply.text

    engines = lambda: [box for box in compose.containers("inference-llm") if "vllm" in processes(box)]  # noqa: E731
    assert len(engines()) == 2
    scale(2)
    until(lambda: platform.http.get("/api/v1/deploy/status/").json()["state"] == "IDLE" and not engines(), 60)
    assert knows(platform, adapter_id, taught)  # asks once, and is held meanwhile
    scale(0)
    await_replicas(platform, 2)
