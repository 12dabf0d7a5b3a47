"""Which jobs a node takes, keeps and ends, on a real store."""

from pathlib import Path

import pytest
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine, NodeReport
from hearth_contracts.jobs import Job, JobStatus
from hearth_inference.holdings import Holdings
from hearth_inference.keeper import Keeper
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_storage.config import HomeSettings
from hearth_telemetry import traces
from redis import Redis

from tests.support.collector import Collector


@pytest.fixture
def holdings(redis: Redis, tmp_path: Path) -> Holdings:
    jobs, replicas = JobStore(redis), ReplicaStore(redis)
    replica = replicas.claim("default", 1, "host:1")
    assert replica is not None
    return Holdings(
        name="default",
        home=HomeSettings(home=tmp_path),
        deployments=DeploymentStore(redis, jobs),
        jobs=jobs,
        keeper=Keeper(jobs, NodeRegistry(redis), replicas, replica),
        node_id="host:1",
        others=lambda: [],
    )


def desire(holdings: Holdings, model_id: str) -> tuple[DeploymentSpec, Job]:
    return holdings.deployments.desire(
        "default", engine=Engine.VLLM, model_id=model_id, adapter_ids=(), served_name="LLM"
    )


def status(holdings: Holdings, job: Job) -> JobStatus:
    return holdings.jobs.get(job.id).status


def serve(holdings: Holdings, model_id: str) -> tuple[DeploymentSpec, Job]:
    spec, job = desire(holdings, model_id)
    assert holdings.claim(spec)
    assert holdings.deployments.settle(spec)
    holdings.serves(job.id)
    return spec, job


def test_a_version_that_was_replaced_is_finished(holdings: Holdings) -> None:
    _, old = serve(holdings, "a/a")
    new, _ = serve(holdings, "b/b")
    holdings.end_orphans(holdings.deployments.get("default"), [new])
    assert status(holdings, old) is JobStatus.FINISHED
    assert list(holdings.keeper.held()) == [new.job_id]


def test_a_version_superseded_before_it_served_is_killed_once_its_engine_is_gone(holdings: Holdings) -> None:
    old, old_job = desire(holdings, "a/a")
    holdings.claim(old)
    new, _ = desire(holdings, "b/b")
    holdings.claim(new)
    holdings.end_orphans(holdings.deployments.get("default"), [old])
    assert status(holdings, old_job) is JobStatus.RUNNING
    holdings.end_orphans(holdings.deployments.get("default"), [])
    assert status(holdings, old_job) is JobStatus.KILLED


def test_an_undeployed_version_is_killed(holdings: Holdings) -> None:
    _, job = serve(holdings, "a/a")
    holdings.deployments.undeploy("default")
    holdings.end_orphans(holdings.deployments.get("default"), [])
    assert status(holdings, job) is JobStatus.KILLED


def test_an_interrupted_job_undeploys_what_serves(holdings: Holdings) -> None:
    _, job = serve(holdings, "a/a")
    holdings.jobs.interrupt(job.id)
    holdings.keeper._renew()
    record = holdings.heed_interrupts(holdings.deployments.get("default"))
    assert record is not None
    assert record.desired is None


def test_an_interrupted_job_that_never_served_goes_back_to_what_serves(holdings: Holdings) -> None:
    old, _ = serve(holdings, "a/a")
    new, job = desire(holdings, "b/b")
    holdings.claim(new)
    holdings.jobs.interrupt(job.id)
    holdings.keeper._renew()
    record = holdings.heed_interrupts(holdings.deployments.get("default"))
    assert record is not None
    assert record.desired == old


def test_a_job_that_is_over_is_not_desired_any_more(holdings: Holdings) -> None:
    spec, job = desire(holdings, "a/a")
    holdings.jobs.interrupt(job.id)
    assert not holdings.claim(spec)
    record = holdings.deployments.get("default")
    assert record is not None
    assert record.desired is None


def other(spec: DeploymentSpec, state: DeploymentState = DeploymentState.READY) -> NodeReport:
    """What another node of the deployment says, which runs this version."""
    return NodeReport(
        node_id="other:2", deployment="default", engine=Engine.VLLM, state=state, url="http://x", replica=1,
        model_id=spec.model_id, generation=spec.generation, runs=(spec.job_id,),
    )  # fmt: skip


def test_a_job_that_another_node_holds_is_left_to_it_and_claimed_when_it_is_free(holdings: Holdings) -> None:
    spec, job = desire(holdings, "a/a")
    attempt = holdings.jobs.claim(job.id, "other:2")
    assert holdings.claim(spec)
    assert holdings.keeper.held() == {}
    holdings.jobs.release(job.id, attempt, "waiting")
    assert holdings.claim(spec, runs=True)
    assert holdings.keeper.held() == {job.id: attempt + 1}


def test_what_other_nodes_still_run_is_not_killed_but_left_to_the_judge(holdings: Holdings) -> None:
    spec, job = serve(holdings, "a/a")
    holdings.others = lambda: [other(spec)]
    holdings.deployments.undeploy("default")
    holdings.end_orphans(holdings.deployments.get("default"), [])
    assert holdings.keeper.held() == {}
    assert status(holdings, job) is JobStatus.RUNNING


def test_another_node_answers_for_a_version_only_when_it_is_ready_with_it(holdings: Holdings) -> None:
    spec, _ = serve(holdings, "a/a")
    newer, _ = desire(holdings, "b/b")
    holdings.others = lambda: [other(spec), other(newer, DeploymentState.LOADING)]
    assert holdings.answers_elsewhere(spec)
    assert not holdings.answers_elsewhere(newer)


def test_a_worker_that_stops_gives_its_jobs_back(holdings: Holdings) -> None:
    _, job = serve(holdings, "a/a")
    holdings.release_all()
    assert status(holdings, job) is JobStatus.RUNNING
    assert holdings.jobs.claim(job.id, "other:2") == 2


def test_the_span_of_a_deployment_ends_when_it_serves_or_fails(collector: Collector, holdings: Holdings) -> None:
    with traces.span("asking", "server", {}, {}):
        spec, _ = serve(holdings, "a/a")
        failing, job = desire(holdings, "b/b")
    holdings.claim(failing)
    holdings.stage(failing, "starting again in 1 s, try 1: what an engine said", 0.0)
    holdings.finish(job.id, JobStatus.FAILED, "what an engine said")
    traces.flush()
    spans = {span.attributes.get("hearth.job.id"): span for span in collector.until(lambda spans: len(spans) == 3)}
    serving, failed = spans[spec.job_id], spans[job.id]
    assert serving.parent_id == failed.parent_id == spans[None].span_id
    assert (serving.name, serving.attributes["hearth.job.status"], serving.is_error) == ("job deploy", "RUNNING", False)
    assert (failed.attributes["hearth.job.status"], failed.is_error) == ("FAILED", True)
    assert failed.events == {"stage": {"stage": "starting again in 1 s, try 1"}}
    assert not any(b"engine said" in body for body in collector.bodies)
