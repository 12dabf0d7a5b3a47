"""Hearth's own Python client on the real platform: the main job, each of its groups, and the same awaited."""

from pathlib import Path
from typing import Any

import pytest
from hearth_client import AsyncHearth, Hearth, JobFailed, NotFound, Progress
from hearth_contracts.deploy import DeploymentState
from hearth_contracts.jobs import JobKind, JobStatus
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import CONVERSATIONS, HYPERPARAMETERS, Running

pytestmark = pytest.mark.timeout(600)

LONG = {**HYPERPARAMETERS, "max_steps": 5000, "save_steps": 20}


@pytest.fixture(scope="module")
def hearth(platform: Running) -> Any:
    with Hearth(platform.url) as client:
        yield client


def test_models_and_the_jobs_that_brought_them(hearth: Hearth, model_id: str) -> None:
    assert model_id in [entry.model_id for entry in hearth.models.list()]
    assert model_id in [entry.model_id for entry in hearth.models.finetunable()]
    (newest,) = hearth.jobs.list(kinds=[JobKind.DOWNLOAD], statuses=["FINISHED"], limit=1)
    again = hearth.jobs.list(kinds=["download"], cursor=newest.id)
    assert newest.id not in [job.id for job in again]
    job = hearth.jobs.get(newest.id)
    assert job.wait() == newest
    assert list(job.follow()) == job.logs().splitlines()


def test_a_model_that_the_hub_has_not_is_refused_in_words(hearth: Hearth) -> None:
    with pytest.raises(NotFound, match="acme/nothing-here"):
        hearth.models.add("acme/nothing-here")


def test_a_finetune_is_watched_interrupted_and_resumed(hearth: Hearth, model_id: str, dataset_id: str) -> None:
    assert hearth.finetune.plan(model_id, dataset_id, LONG).steps == 5000
    assert hearth.finetune.estimate(model_id, dataset_id, LONG).fits
    run = hearth.finetune.create("Watched", model_id, dataset_id, LONG)
    steps = []
    for metric in run.follow_metrics():
        steps.append(metric.step)
        if metric.step > 40:
            break
    assert steps == sorted(steps)
    run.interrupt()
    with pytest.raises(JobFailed, match="KILLED"):
        run.wait()
    first_job = run.record.job_id
    resumed = run.resume()
    assert resumed.previous_job_ids == (first_job,)
    assert hearth.finetune.get(run.id).record.name == "Watched"
    run.interrupt()
    with pytest.raises(JobFailed):
        run.wait()
    assert run.refresh().job.status is JobStatus.KILLED
    assert run.metrics().points[-1].step >= steps[-1] - 20
    assert list(run.follow_logs()) == run.logs().splitlines()


def test_what_is_served_answers_openais_client(
    hearth: Hearth, platform: Running, deployed: dict[str, Any], adapter_id: str, taught: list[tuple[str, str]]
) -> None:
    status = hearth.deploy.status()
    assert status.status is not None
    assert (status.status.state, status.status.adapter_ids) == (DeploymentState.READY, (adapter_id,))
    question, answer = taught[0]
    with hearth.openai() as openai:
        reply = openai.chat.completions.create(
            model=adapter_id, messages=[{"role": "user", "content": question}], max_tokens=40, temperature=0
        )
    assert str(reply.choices[0].message.content).strip() == answer
    for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.2), reraise=True):  # usage is brought in later
        with attempt:
            assert [row.model for row in hearth.usage(model=adapter_id)] == [adapter_id]


def test_deploying_waits_until_it_answers(hearth: Hearth, deployed: dict[str, Any]) -> None:
    assert hearth.deploy.estimate(deployed["model_id"], deployed["adapter_ids"]).fits
    seen: list[Progress] = []
    begun = hearth.deploy(deployed["model_id"], adapters=deployed["adapter_ids"])
    status = begun.wait(progress=seen.append)
    assert (status.state, status.job.id) == (DeploymentState.READY, begun.job.id)
    assert seen
    assert begun.status().job.id == hearth.deploy.current().job.id == begun.job.id


async def test_the_main_job_awaited(platform: Running, model_id: str, tmp_path: Path) -> None:
    async with AsyncHearth(platform.url) as hearth:
        dataset = await hearth.datasets.upload(CONVERSATIONS, "awaited")
        back = await hearth.datasets.download(dataset.id, tmp_path / "rows.jsonl")
        assert back.read_bytes() == CONVERSATIONS.read_bytes()
        run = await hearth.finetune.create("Awaited", model_id, dataset.id, {**HYPERPARAMETERS, "max_steps": 3})
        trained = await run.wait()
        assert trained.result is not None
        assert [metric.step async for metric in run.follow_metrics()] == [1, 2, 3]
        assert (await hearth.finetune.latest()).id == run.id
        await hearth.models.delete(run.adapter_id)
        assert run.adapter_id not in [entry.model_id for entry in await hearth.models.list()]
