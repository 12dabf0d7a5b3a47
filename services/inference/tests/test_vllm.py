"""vLLM through a real worker, one engine start shared where it can be: the life of a deployment in order."""

import json
import shutil
import threading
from collections.abc import Iterator

import httpx
import psutil
import pytest
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_contracts.engine import EngineSettings
from hearth_contracts.jobs import Job, JobStatus

from services.inference.tests.conftest import SUPPORT, Place, add_adapters, add_model, complete, script, wait_for
from tests.support.collector import Collector, collecting

BASE = "tiny/llama"
BROKEN = "tiny/broken"
SETTINGS = EngineSettings(dtype="float32", max_model_len=256, max_num_seqs=4, enable_prefix_caching=False)
TWO_SLOTS = EngineSettings(max_loras=2)
"""The second adapter then has the last slot, which is the one that a base's rows must not be taken for."""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def shelf(place: Place) -> Place:
    """A good model with two adapters, and one whose weights were cut off."""

    base = add_model(place.home, BASE, lambda folder: script("training", str(SUPPORT / "tiny_llama.py"), str(folder)))
    weights = add_model(place.home, BROKEN, lambda folder: shutil.copytree(base, folder)) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    add_adapters(place, base, BASE, "ada-1", "bea-2")
    return place


@pytest.fixture
def served(shelf: Place) -> Iterator[tuple[Place, Job]]:
    """A worker that serves the base with one adapter."""
    with shelf.worker(Engine.VLLM, HEARTH_MAX_LORA_RANK="16"):
        job = shelf.deploy(BASE, "ada-1", settings=TWO_SLOTS)
        shelf.ready(job)
        yield shelf, job


def engine_of(place: Place, report: NodeReport) -> psutil.Process:
    """The engine's first process."""
    port = report.url.rpartition(":")[2]
    lines = {process: process.cmdline() for process in place.processes()}
    return next(p for p, line in lines.items() if port in line and not any("guard.py" in word for word in line))


def context_of(report: NodeReport) -> int:
    """The longest context that the engine says it takes."""
    models = httpx.get(f"{report.url}/v1/models").json()["data"]
    return int(next(model["max_model_len"] for model in models if model["id"] == BASE))


def text_of(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["text"])


def test_the_whole_life_of_a_deployment(served: tuple[Place, Job]) -> None:
    place, first = served
    report = place.ready(first)
    assert report.models == ("LLM", BASE, "ada-1")
    base_text = text_of(complete(report, "LLM"))
    assert text_of(complete(report, BASE)) == base_text
    ada_text = text_of(complete(report, "ada-1"))
    assert ada_text != base_text
    assert place.jobs.get(first.id).status is JobStatus.RUNNING

    # other adapters, same engine, under a stream of the one that goes away
    events: list[str] = []
    begun = threading.Event()

    def stream(model: str) -> None:
        body = {"model": model, "prompt": "Hello", "max_tokens": 900, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{report.url}/v1/completions", json=body, timeout=60) as reply:
            assert reply.status_code == 200
            for line in reply.iter_lines():
                if line.startswith("data: "):
                    events.append(line[6:])
                    begun.set()

    reader = threading.Thread(target=stream, args=["ada-1"])
    reader.start()
    assert begun.wait(30)
    pid = engine_of(place, report).pid
    second = place.deploy(BASE, "bea-2", settings=TWO_SLOTS)
    swapped = place.ready(second, 15)
    reader.join(60)
    assert events[-1] == "[DONE]"
    chosen = [json.loads(event)["choices"] for event in events[:-1]]
    assert [c[0]["finish_reason"] for c in chosen if c][-1] == "length"
    assert (swapped.url, engine_of(place, swapped).pid) == (report.url, pid)
    assert swapped.models == ("LLM", BASE, "bea-2")
    assert place.over(first, 10).status is JobStatus.FINISHED
    wait_for(lambda: complete(swapped, "ada-1").status_code == 404, 5)
    bea_text = text_of(complete(swapped, "bea-2"))
    assert bea_text not in (ada_text, base_text)

    # the base beside an adapter in one batch is still the base
    begun.clear()
    events.clear()
    reader = threading.Thread(target=stream, args=["bea-2"])
    reader.start()
    assert begun.wait(30)
    assert text_of(complete(swapped, "LLM")) == base_text
    assert "[DONE]" not in events, "it was over before the base was asked"
    reader.join(60)

    # a model that cannot be loaded: FAILED in the engine's words, the good one goes on
    broken = place.deploy(BROKEN)
    while not place.jobs.get(broken.id).status.is_over:
        assert text_of(complete(swapped, "bea-2")) == bea_text
        begun.clear()
        begun.wait(1)  # not more often: on two cores the start beside it would starve
    failed = place.jobs.get(broken.id)
    assert failed.status is JobStatus.FAILED
    assert "SafetensorError" in str(failed.error), failed.error
    record = wait_for(lambda: (r := place.deployments.get("default")) and r.desired == r.serving and r, 5)
    assert record.desired is not None
    assert record.desired.job_id == second.id
    assert place.ready(second, 10).url == swapped.url
    assert place.jobs.get(second.id).status is JobStatus.RUNNING

    # an adapter that is not there
    missing = place.over(place.deploy(BASE, "nobody-0", settings=TWO_SLOTS), 15)
    assert missing.status is JobStatus.FAILED
    assert "nobody-0" in str(missing.error)

    # the engine is killed: it comes back with its adapter
    engine_of(place, swapped).kill()
    wait_for(lambda: (r := place.report()) and r.state is DeploymentState.LOADING, 10)
    again = place.ready(second)
    assert text_of(complete(again, "bea-2")) == bea_text

    # undeployed: nothing is left
    place.deployments.undeploy("default")
    assert place.over(second, 40).status is JobStatus.KILLED
    assert place.report() is None
    assert place.processes() == []


def test_a_worker_killed_leaves_no_process_and_another_takes_over_with_the_same_engine_settings(shelf: Place) -> None:
    with shelf.worker(Engine.VLLM, HEARTH_MAX_LORA_RANK="16") as worker:
        job = shelf.deploy(BASE, "ada-1", settings=SETTINGS)
        assert context_of(shelf.ready(job)) == SETTINGS.max_model_len
        worker.kill()
        worker.wait()
        wait_for(lambda: not shelf.processes(), 20)
        wait_for(lambda: shelf.report() is None, 20)  # what the dead one said of itself
    assert shelf.jobs.get(job.id).status is JobStatus.RUNNING
    with shelf.worker(Engine.VLLM, HEARTH_MAX_LORA_RANK="16"):
        shelf.bury_the_dead()
        shelf.requeue("default", Engine.VLLM)
        wait_for(lambda: shelf.jobs.get(job.id).attempt == 2, 20)
        again = shelf.ready(job)
        assert context_of(again) == SETTINGS.max_model_len
        text_of(complete(again, "ada-1"))
    # told to stop, the worker gave the job back: it goes on when a worker is there again
    assert shelf.jobs.get(job.id).status is JobStatus.RUNNING
    assert shelf.report() is None
    shelf.deployments.undeploy("default")
    assert shelf.jobs.get(job.id).status is JobStatus.KILLED


def test_a_request_that_is_traced_has_vllms_own_span_in_its_trace(shelf: Place) -> None:
    trace, gateways = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with collecting(Collector()) as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with shelf.worker(Engine.VLLM, HEARTH_MAX_LORA_RANK="16", **settings):
            report = shelf.ready(shelf.deploy(BASE, "ada-1"))
            body = {"model": "ada-1", "prompt": "said to nobody", "max_tokens": 5}
            headers = {"traceparent": f"00-{trace}-{gateways}-01"}
            text_of(httpx.post(f"{report.url}/v1/completions", json=body, headers=headers, timeout=60))
            spans = collector.until(lambda spans: any(span.trace_id == trace for span in spans))
            shelf.deployments.undeploy("default")
    (request,) = (span for span in spans if span.trace_id == trace)
    assert (request.service, request.name, request.parent_id) == ("hearth-vllm", "llm_request", gateways)
    assert request.attributes["gen_ai.usage.completion_tokens"] == 5
    assert "hearth-inference-llm" in {span.service for span in spans}
    assert not any(b"said to nobody" in body for body in collector.bodies)
