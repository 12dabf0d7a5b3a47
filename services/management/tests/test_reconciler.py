"""The reconciler makes what is match what is recorded, once a round, on real servers."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine, NodeReport
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.models import ModelFile
from hearth_jobs import keys, owners
from hearth_jobs.config import RedisSettings
from hearth_jobs.deployments import LLM_DEPLOYMENT
from hearth_jobs.models import model_of
from hearth_jobs.queues import (
    DOWNLOADS,
    INFERENCE_LLM,
    TRAINING,
    Lane,
    enqueue,
    transaction,
    waiting,
)
from hearth_management import deploy, models
from hearth_management.config import ManagementSettings
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services, build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import RECORD, find_model, model_folder, record_model
from pydantic import SecretStr
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port, valkey

MAX_ATTEMPTS = ManagementSettings().max_attempts


@pytest.fixture
def once(services: Services) -> Callable[[], None]:
    return Reconciler(services, patience=0).once


def lose_items(services: Services, lane: Lane = DOWNLOADS) -> None:
    """What a worker that dies does to the item it took."""
    services.redis.delete(f"rq:queue:{lane.queue}")


def items(services: Services, lane: Lane = DOWNLOADS) -> int:
    return int(services.redis.llen(f"rq:queue:{lane.queue}"))


def desire(services: Services, model_id: str = "acme/llm") -> DeploymentSpec:
    spec, _ = services.deployments.desire(
        LLM_DEPLOYMENT, engine=Engine.VLLM, model_id=model_id, adapter_ids=(), served_name="LLM"
    )
    return spec


def status(services: Services, job: Job | str) -> JobStatus:
    return services.jobs.get(job if isinstance(job, str) else job.id).status


def test_a_job_whose_worker_died_waits_for_another_attempt_and_fails_after_the_last(
    services: Services, once: Callable[[], None]
) -> None:
    job = models.add(services, "acme/tiny")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert waiting(services.redis, DOWNLOADS) == {job.id}
        lose_items(services)
        assert services.jobs.claim(job.id, "dead", lease=0) == attempt
        once()
        once()
        assert items(services) == (0 if attempt == MAX_ATTEMPTS else 1)
    over = services.jobs.get(job.id)
    assert over.status is JobStatus.FAILED
    assert over.error is not None
    assert f"was killed {MAX_ATTEMPTS} times" in over.error
    assert services.jobs.active() == []


def test_a_job_whose_lease_holds_is_left_alone(services: Services, once: Callable[[], None]) -> None:
    job = models.add(services, "acme/tiny")
    lose_items(services)
    services.jobs.claim(job.id, "alive")
    once()
    assert (items(services), services.jobs.get(job.id).stage) == (0, "starting")


def test_a_job_given_back_by_a_stopped_worker_is_queued_however_often(
    services: Services, once: Callable[[], None]
) -> None:
    job = models.add(services, "acme/tiny")
    for _ in range(MAX_ATTEMPTS + 1):
        lose_items(services)
        attempt = services.jobs.claim(job.id, "stopped")
        services.jobs.release(job.id, attempt, "waiting")
        once()
        assert waiting(services.redis, DOWNLOADS) == {job.id}
    assert status(services, job) is JobStatus.RUNNING


def this_owner() -> str:
    return str(owners.this_process())


def a_dead_owner() -> str:
    """A process of this machine that was, and is no more."""
    return str(replace(owners.this_process(), started="1"))


def lapse(services: Services, job: Job | str) -> None:
    """As when its holder could not renew."""
    job_id = job if isinstance(job, str) else job.id
    services.redis.hset(keys.job(job_id), "lease_until_ms", "1")
    services.redis.zadd(keys.ACTIVE_JOBS, {job_id: 1})


def test_a_worker_of_this_machine_that_is_proven_gone_is_replaced_before_its_lease_ends(services: Services) -> None:
    job = models.add(services, "acme/tiny")
    lose_items(services)
    services.jobs.claim(job.id, a_dead_owner())
    Reconciler(services).once()  # proof needs no patience
    assert waiting(services.redis, DOWNLOADS) == {job.id}
    assert services.jobs.claim(job.id, "next") == 2


def test_a_worker_of_this_machine_that_lives_keeps_its_job_though_its_lease_ended(
    services: Services, once: Callable[[], None]
) -> None:
    job = models.add(services, "acme/tiny")
    lose_items(services)
    attempt = services.jobs.claim(job.id, this_owner())
    lapse(services, job)
    once()
    assert items(services) == 0
    assert services.jobs.renew(job.id, attempt) is False


def test_a_reconciler_that_has_just_begun_does_not_trust_leases(services: Services, once: Callable[[], None]) -> None:
    """Redis may have come back only now: the living have not renewed yet."""
    job = models.add(services, "acme/tiny")
    lose_items(services)
    attempt = services.jobs.claim(job.id, "elsewhere", lease=0)
    Reconciler(services).once()
    assert services.jobs.renew(job.id, attempt, lease=0) is False
    once()
    assert waiting(services.redis, DOWNLOADS) == {job.id}


def test_two_reconcilers_at_once_count_one_death_and_one_retry(services: Services) -> None:
    job = models.add(services, "acme/tiny")
    lose_items(services)
    services.jobs.claim(job.id, a_dead_owner())
    threads = [threading.Thread(target=Reconciler(services, patience=0).once) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (held,) = services.jobs.running()
    assert (held.deaths, held.owner) == (1, "")
    assert services.jobs.claim(job.id, "next") == 2  # however many items there are, one can claim it
    services.redis.close()


def test_an_interrupted_job_whose_worker_died_is_killed_and_not_tried_again(
    services: Services, once: Callable[[], None]
) -> None:
    job = models.add(services, "acme/tiny")
    lose_items(services)
    attempt = services.jobs.claim(job.id, "dies")
    services.jobs.interrupt(job.id)
    lapse(services, job)
    once()
    assert (status(services, job), services.jobs.get(job.id).attempt) == (JobStatus.KILLED, attempt)
    assert items(services) == 0


def test_a_created_job_without_an_item_is_queued_once(services: Services, once: Callable[[], None]) -> None:
    job = models.add(services, "acme/tiny")
    once()
    assert items(services) == 1
    lose_items(services)
    once()
    once()
    assert waiting(services.redis, DOWNLOADS) == {job.id}
    assert items(services) == 1


def test_a_turn_costs_the_same_however_many_jobs_wait_in_a_queue(services: Services, once: Callable[[], None]) -> None:
    def asked() -> int:
        before = services.redis.info("stats")["total_reads_processed"]
        once()
        return int(services.redis.info("stats")["total_reads_processed"]) - int(before)

    def wait_in_queue(count: int) -> None:
        for _ in range(count):
            pipe = transaction(services.redis)
            job = services.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT", subject="some")
            enqueue(services.redis, TRAINING, job.id, pipe)
            pipe.execute()

    wait_in_queue(1)
    once()  # connects
    few = asked()
    wait_in_queue(100)
    assert asked() < few + 50  # a look at each would be a hundred more; connections are looked after now and then
    assert len(waiting(services.redis, TRAINING)) == 101


def test_a_deployment_nobody_serves_is_queued_once(services: Services, once: Callable[[], None]) -> None:
    desire(services)
    lose_items(services, INFERENCE_LLM)
    once()
    once()
    assert waiting(services.redis, INFERENCE_LLM) == {LLM_DEPLOYMENT}
    assert items(services, INFERENCE_LLM) == 1
    lose_items(services, INFERENCE_LLM)
    replica = services.replicas.claim(LLM_DEPLOYMENT, 1, str(owners.this_process()))
    assert replica is not None
    once()
    assert items(services, INFERENCE_LLM) == 0
    services.replicas.release(replica)
    once()
    assert items(services, INFERENCE_LLM) == 1


def test_each_replica_that_nobody_holds_is_queued_and_what_a_dead_node_held_is_freed(
    services: Services, once: Callable[[], None]
) -> None:
    desire(services)
    assert services.deployments.scale(LLM_DEPLOYMENT, 3)
    once()
    once()
    assert items(services, INFERENCE_LLM) == 3
    lose_items(services, INFERENCE_LLM)
    for owner in (str(owners.this_process()), a_dead_owner()):
        assert services.replicas.claim(LLM_DEPLOYMENT, 3, owner)
    once()
    assert [replica.index for replica in services.replicas.held()] == [0]
    assert items(services, INFERENCE_LLM) == 2
    assert services.deployments.scale(LLM_DEPLOYMENT, 1)
    lose_items(services, INFERENCE_LLM)
    once()
    assert items(services, INFERENCE_LLM) == 0


def running(services: Services, spec: DeploymentSpec, node_id: str = "other:2") -> None:
    """Another node says that it runs an engine of this version."""
    services.nodes.report(
        NodeReport(
            node_id=node_id, deployment=LLM_DEPLOYMENT, engine=Engine.VLLM, state=DeploymentState.READY, url="http://x",
            model_id=spec.model_id, generation=spec.generation, replica=1, runs=(spec.job_id,),
        )
    )  # fmt: skip


def test_an_undeployed_job_is_killed_only_when_no_node_runs_an_engine_of_it(
    services: Services, once: Callable[[], None]
) -> None:
    spec = desire(services)
    running(services, spec)
    services.jobs.release(spec.job_id, services.jobs.claim(spec.job_id, "one:1"), "waiting")  # nobody holds it
    services.deployments.settle(spec)
    deploy.undeploy(services)
    once()
    assert status(services, spec.job_id) is JobStatus.RUNNING
    assert deploy.status(services).state is DeploymentState.DRAINING
    services.nodes.withdraw("other:2")
    once()
    assert status(services, spec.job_id) is JobStatus.KILLED


def test_a_deployment_that_another_node_serves_is_not_given_up_however_often_its_carrier_dies(
    services: Services, once: Callable[[], None]
) -> None:
    spec = desire(services)
    running(services, spec)
    for _ in range(MAX_ATTEMPTS + 1):
        services.jobs.claim(spec.job_id, a_dead_owner())
        once()
    assert status(services, spec.job_id) is JobStatus.RUNNING
    services.nodes.withdraw("other:2")
    services.jobs.claim(spec.job_id, a_dead_owner())
    once()
    assert status(services, spec.job_id) is JobStatus.FAILED


def test_what_an_older_hearth_deployed_nodes_can_fetch_without_another_deploy_as_soon_as_its_hashes_are_known(
    services: Services, once: Callable[[], None], put_model: Callable[..., None]
) -> None:
    put_model("acme/llm")
    desire(services)
    assert model_of(services.redis, "acme/llm") is None
    once()
    found = model_of(services.redis, "acme/llm")
    assert found is not None and found == find_model(services.home.models, "acme/llm")
    files = (ModelFile(name="config.json", bytes=2, sha256="0" * 64),)
    record_model(services.home.models, found.model_copy(update={"files": files}))  # as sharing it does
    once()
    told = model_of(services.redis, "acme/llm")
    assert told is not None and told.files == files


def test_a_record_that_cannot_be_read_is_told_once_and_holds_up_nothing(
    services: Services, once: Callable[[], None], put_model: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    put_model("acme/llm")
    desire(services)
    record = model_folder(services.home.models, "acme/llm") / RECORD
    whole = record.read_text()

    def told() -> list[str]:
        found = [each.getMessage() for each in caplog.records if "what models there are" in each.getMessage()]
        caplog.clear()
        return found

    record.write_text("{")
    for expected in (1, 0, 0):
        once()
        assert len(told()) == expected
    assert items(services, INFERENCE_LLM) == 1
    record.write_text("[")
    once()
    assert len(told()) == 1  # another fault
    record.write_text(whole)
    once()
    assert told() == []
    assert model_of(services.redis, "acme/llm") is not None


def test_an_undeployed_deployment_is_not_queued(services: Services, once: Callable[[], None]) -> None:
    desire(services)
    services.deployments.undeploy(LLM_DEPLOYMENT)
    lose_items(services, INFERENCE_LLM)
    once()
    assert items(services, INFERENCE_LLM) == 0


def test_a_deploy_job_runs_on_while_its_version_serves_and_ends_when_it_is_superseded(
    services: Services, once: Callable[[], None]
) -> None:
    first = desire(services)
    services.jobs.claim(first.job_id, "dead node", lease=0)
    services.deployments.settle(first)
    once()
    assert status(services, first.job_id) is JobStatus.RUNNING  # an inference node takes it up again
    assert services.jobs.get(first.job_id).stage.startswith("waiting for an inference node")
    second = desire(services, "acme/other")
    once()
    assert status(services, first.job_id) is JobStatus.RUNNING  # it serves until the second does
    services.deployments.settle(second)
    once()
    assert status(services, first.job_id) is JobStatus.FINISHED
    assert status(services, second.job_id) is JobStatus.CREATED


def test_a_deployment_whose_node_keeps_dying_is_given_up_with_words_and_can_be_deployed_again(
    services: Services, once: Callable[[], None]
) -> None:
    spec = desire(services)
    for _ in range(MAX_ATTEMPTS):
        services.jobs.claim(spec.job_id, a_dead_owner())
        once()
    over = services.jobs.get(spec.job_id)
    assert over.status is JobStatus.FAILED
    assert over.error is not None
    assert f"was killed {MAX_ATTEMPTS} times" in over.error
    assert deploy.status(services).state is DeploymentState.FAILED
    again = desire(services)
    assert again.generation == spec.generation + 1
    assert status(services, again.job_id) is JobStatus.CREATED


def test_a_deploy_job_that_nobody_holds_ends_when_it_is_superseded(
    services: Services, once: Callable[[], None]
) -> None:
    first = desire(services)
    services.deployments.settle(first)
    services.jobs.release(first.job_id, services.jobs.claim(first.job_id, "stopped node"), "waiting")
    services.deployments.settle(desire(services, "acme/other"))
    once()
    assert status(services, first.job_id) is JobStatus.FINISHED


def test_a_deploy_job_whose_node_died_is_killed_when_it_is_undeployed(
    services: Services, once: Callable[[], None]
) -> None:
    spec = desire(services)
    services.jobs.claim(spec.job_id, "dead node", lease=0)
    services.deployments.settle(spec)
    services.deployments.undeploy(LLM_DEPLOYMENT)
    once()
    assert status(services, spec.job_id) is JobStatus.KILLED


# -- rest


def is_asleep(services: Services) -> bool:
    record = services.deployments.get(LLM_DEPLOYMENT)
    assert record is not None
    return record.is_asleep


def ask_long_ago(services: Services, seconds: float) -> None:
    """As if the last request had come so long ago."""
    now, _ = services.redis.time()
    services.redis.hset(keys.ASKED, LLM_DEPLOYMENT, now - seconds)


def test_what_nobody_asked_for_sleeps_with_no_replica_queued_and_its_job_running(
    services: Services, once: Callable[[], None]
) -> None:
    spec = desire(services)
    services.jobs.release(spec.job_id, services.jobs.claim(spec.job_id, "one:1"), "waiting for a request")
    services.deployments.settle(spec)
    running(services, spec)
    ask_long_ago(services, 3600)
    once()
    assert not is_asleep(services), "it may not"
    services.deployments.scale(LLM_DEPLOYMENT, idle_after=60)
    once()
    assert not is_asleep(services), "it was told to only now"
    ask_long_ago(services, 61)
    once()
    assert is_asleep(services)
    services.nodes.withdraw("other:2")
    lose_items(services, INFERENCE_LLM)
    once()
    assert items(services, INFERENCE_LLM) == 0
    assert status(services, spec.job_id) is JobStatus.RUNNING
    shown = deploy.status(services)
    assert (shown.state, shown.idle_after, shown.replicas.ready) == (DeploymentState.IDLE, 60, 0)
    services.deployments.wake(LLM_DEPLOYMENT)
    lose_items(services, INFERENCE_LLM)
    once()
    assert items(services, INFERENCE_LLM) == 1
    assert deploy.status(services).state is DeploymentState.LOADING


def test_what_still_loads_does_not_sleep_nor_what_was_deployed_in_its_place(
    services: Services, once: Callable[[], None]
) -> None:
    spec = desire(services)
    services.deployments.scale(LLM_DEPLOYMENT, idle_after=1)
    services.deployments.settle(spec)
    ask_long_ago(services, 3600)
    once()
    assert not is_asleep(services), "no node is ready"
    running(services, spec)
    desire(services, "acme/other")
    ask_long_ago(services, 3600)
    once()
    assert not is_asleep(services), "another version is on its way"


def test_after_redis_was_away_nothing_sleeps_before_the_gateways_could_say_that_it_is_used(services: Services) -> None:
    spec = desire(services)
    services.deployments.scale(LLM_DEPLOYMENT, idle_after=60)
    services.deployments.settle(spec)
    running(services, spec)
    ask_long_ago(services, 3600)
    Reconciler(services, patience=60).once()
    assert not is_asleep(services)


# -- the loop


def test_the_loop_outlives_redis_and_lets_the_living_renew_before_it_judges_anybody_dead(
    home: HomeSettings, s3_settings: S3Settings, tmp_path: Path
) -> None:
    port = free_port()
    settings = RedisSettings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"))
    services = build_services(ManagementSettings(embedding_model=""), home, settings, s3_settings)
    reconciler = Reconciler(services)
    with words_of_the_loop("Redis is away") as away:
        with valkey(tmp_path / "valkey", port):
            desire(services)
            job = models.add(services, "acme/tiny")
            attempt = services.jobs.claim(job.id, "alive", lease=1.5)
            reconciler.start()
        assert away.wait(30)
    with valkey(tmp_path / "valkey", port):
        until(services.jobs.expired)  # the holder could not renew
        lose_items(services)
        lose_items(services, INFERENCE_LLM)
        until(lambda: items(services, INFERENCE_LLM))  # the loop goes round again
        assert services.jobs.get(job.id).stage == "starting"
        assert items(services) == 0
        assert services.jobs.renew(job.id, attempt) is False
        reconciler.stop()


@contextmanager
def words_of_the_loop(words: str) -> Iterator[threading.Event]:
    """An event that is set once the loop has logged `words`."""
    said = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                said.set()

    logger, listener = logging.getLogger("hearth_management.reconciler"), Listener()
    logger.addHandler(listener)
    yield said
    logger.removeHandler(listener)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    for tries in Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.05), reraise=True):
        with tries:
            assert condition()
