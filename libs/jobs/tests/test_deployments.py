"""Desired and serving versions of a deployment, on a real server."""

from dataclasses import replace

import pytest
from hearth_contracts.deploy import DeploymentSpec, Engine
from hearth_contracts.jobs import Job, JobStatus
from hearth_jobs.deployment_record import ByLoad
from hearth_jobs.deployments import DeploymentStore, Superseded, deploy_job_name
from hearth_jobs.queues import INFERENCE_LLM, counted, waiting
from hearth_jobs.store import JobStore
from redis import Redis


@pytest.fixture
def store(redis: Redis) -> DeploymentStore:
    return DeploymentStore(redis, JobStore(redis))


def desire(store: DeploymentStore, model: str = "org/base", *adapters: str) -> tuple[DeploymentSpec, Job]:
    return store.desire("default", engine=Engine.VLLM, model_id=model, adapter_ids=adapters, served_name="LLM")


def test_a_deploy_records_the_spec_its_job_and_a_queue_item_together(store: DeploymentStore) -> None:
    spec, job = desire(store, "org/base", "a", "b")
    record = store.get("default")
    assert record is not None
    assert (record.desired, record.serving, record.latest) == (spec, None, spec)
    assert store.jobs.get(job.id).name == "DEPLOY_org/base_adapters_a_b"
    assert waiting(store.redis, INFERENCE_LLM) == {"default"}


def test_a_base_alone_has_no_adapters_in_its_job_name() -> None:
    assert deploy_job_name("org/base", ()) == "DEPLOY_org/base"


def test_a_newer_version_has_a_higher_generation_and_kills_the_job_that_never_served(store: DeploymentStore) -> None:
    first, old_job = desire(store)
    second, _ = desire(store, "org/other")
    assert second.generation == first.generation + 1
    assert store.jobs.get(old_job.id).status is JobStatus.KILLED


def test_the_job_of_what_serves_is_left_alone_while_a_newer_version_loads(store: DeploymentStore) -> None:
    first, job = desire(store)
    store.jobs.claim(job.id, "node")
    assert store.settle(first)
    desire(store, "org/other")
    assert store.jobs.get(job.id).status is JobStatus.RUNNING


def test_giving_up_a_version_goes_back_to_what_serves(store: DeploymentStore) -> None:
    first, _ = desire(store)
    store.settle(first)
    second, _ = desire(store, "org/broken")
    assert store.give_up(second, "weights are truncated")
    record = store.get("default")
    assert record is not None
    assert (record.desired, record.latest, record.failure) == (first, second, "weights are truncated")


def test_giving_up_what_serves_leaves_nothing_desired(store: DeploymentStore) -> None:
    spec, _ = desire(store)
    store.settle(spec)
    assert store.give_up(spec, "it crashed 3 times")
    record = store.get("default")
    assert record is not None
    assert (record.desired, record.serving) == (None, None)


def test_a_node_cannot_settle_or_give_up_a_version_that_is_no_longer_desired(store: DeploymentStore) -> None:
    first, _ = desire(store)
    second, _ = desire(store, "org/other")
    assert not store.settle(first)
    assert not store.give_up(first, "late")
    record = store.get("default")
    assert record is not None
    assert (record.desired, record.serving, record.failure) == (second, None, "")


def test_undeploying_interrupts_the_job_and_desires_nothing(store: DeploymentStore) -> None:
    spec, job = desire(store)
    assert store.undeploy("default") == spec
    record = store.get("default")
    assert record is not None
    assert record.desired is None
    assert store.jobs.get(job.id).status is JobStatus.KILLED


def test_a_version_that_was_replaced_meanwhile_is_not_replaced_again(store: DeploymentStore) -> None:
    first, _ = desire(store)
    second, _ = desire(store, "org/other")
    with pytest.raises(Superseded):
        store.desire(
            "default", engine=Engine.VLLM, model_id="org/late", adapter_ids=(), served_name="LLM", instead_of=first
        )
    record = store.get("default")
    assert record is not None
    assert record.desired == second


def test_replicas_are_kept_from_version_to_version_and_change_without_a_new_one(store: DeploymentStore) -> None:
    assert not store.scale("default", 2), "nothing is deployed"
    store.desire("default", engine=Engine.VLLM, model_id="org/a", adapter_ids=(), served_name="LLM", replicas=3)
    spec, _ = desire(store)
    record = store.get("default")
    assert record is not None
    assert record.replicas == 3
    assert store.scale("default", 2)
    record = store.get("default")
    assert record is not None
    assert (record.replicas, record.desired) == (2, spec)


def test_the_most_replicas_are_kept_as_well_and_the_fewest_come_first(store: DeploymentStore) -> None:
    desire(store)
    assert store.scale("default", replicas=2, max_replicas=3)
    desire(store)
    record = store.get("default")
    assert record is not None
    assert (record.replicas, record.max_replicas, record.desired_replicas) == (2, 3, 2)
    made = replace(record, by_load=ByLoad(replicas=9, reason="", full_at=1))
    assert made.desired_replicas == 3
    assert replace(made, replicas=4).desired_replicas == 4
    assert replace(made, max_replicas=0).desired_replicas == 2


def test_what_sleeps_is_queued_when_it_wakes_and_stays_desired(store: DeploymentStore) -> None:
    spec, job = desire(store)
    assert not store.wake("default")
    assert store.sleep(spec)
    record = store.get("default")
    assert record is not None
    assert (record.is_asleep, record.desired) == (True, spec)
    assert store.wake("default")
    assert not store.wake("default")
    assert counted(store.redis, INFERENCE_LLM)["default"] == 2
    assert store.jobs.get(job.id).status is JobStatus.CREATED


def test_a_new_version_and_the_wish_that_an_engine_always_runs_wake_what_sleeps(store: DeploymentStore) -> None:
    for wake in (lambda: desire(store), lambda: store.scale("default", idle_after=0)):
        spec, _ = desire(store)
        store.sleep(spec)
        wake()
        record = store.get("default")
        assert record is not None
        assert not record.is_asleep


def test_undeploying_nothing_says_so(store: DeploymentStore) -> None:
    assert store.undeploy("default") is None
