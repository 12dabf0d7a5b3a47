"""What Prometheus reads of management, computed from records in a real Redis."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from hearth_contracts.base import now
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_contracts.finetune import Metric
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_jobs import tallies
from hearth_jobs.config import RedisSettings
from hearth_jobs.queues import TRAINING, enqueue, transaction
from hearth_jobs.tallies import Tally
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import Services, build_services
from hearth_storage.config import HomeSettings, S3Settings
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.support.servers import free_port

Sampled = Callable[..., float | None]


def sample(page: str, name: str, **labels: str) -> float | None:
    """The value of one time series on a metrics page."""
    for family in text_string_to_metric_families(page):
        for each in family.samples:
            if each.name == name and labels.items() <= each.labels.items():
                return float(each.value)
    return None


@pytest.fixture
def scrape(client: TestClient) -> Sampled:
    def ask(name: str, **labels: str) -> float | None:
        return sample(client.get("/metrics").text, name, **labels)

    return ask


def make_job(services: Services, kind: JobKind = JobKind.FINETUNE) -> str:
    pipe = transaction(services.redis)
    job = services.jobs.create(pipe, kind=kind, name="FT_x", subject="x")
    pipe.execute()
    return job.id


def test_a_job_is_counted_where_it_stands_and_once_only(services: Services, scrape: Sampled) -> None:
    job_id = make_job(services)
    assert scrape("hearth_jobs", kind="finetune", status="CREATED") == 1
    assert (scrape("hearth_job_oldest_age_seconds", kind="finetune", status="CREATED") or 0) > 0
    attempt = services.jobs.claim(job_id, "host:1")
    assert scrape("hearth_jobs", kind="finetune", status="CREATED") == 0
    assert scrape("hearth_job_queue_wait_seconds_count", kind="finetune") == 1
    services.jobs.finish(job_id, attempt, JobStatus.FINISHED)
    for _ in range(2):
        assert scrape("hearth_jobs", kind="finetune", status="RUNNING") == 0
        assert scrape("hearth_jobs", kind="finetune", status="FINISHED") == 1
        assert scrape("hearth_job_queue_wait_seconds_count", kind="finetune") == 1
        assert scrape("hearth_job_run_seconds_count", kind="finetune", status="FINISHED") == 1
        assert scrape("hearth_job_oldest_age_seconds", kind="finetune", status="RUNNING") == 0


def test_a_job_that_waited_at_one_scrape_is_counted_as_it_is_at_the_next(services: Services, scrape: Sampled) -> None:
    waits, goes_on, ends, is_killed = (make_job(services) for _ in range(4))
    assert scrape("hearth_jobs", kind="finetune", status="CREATED") == 4
    services.jobs.claim(goes_on, "host:1")
    services.jobs.finish(ends, services.jobs.claim(ends, "host:1"), JobStatus.FINISHED)
    services.jobs.interrupt(is_killed)
    for _ in range(2):
        for status in JobStatus:
            assert scrape("hearth_jobs", kind="finetune", status=status) == (0 if status is JobStatus.FAILED else 1)
    services.jobs.claim(waits, "host:1")
    assert scrape("hearth_jobs", kind="finetune", status="RUNNING") == 2


def test_an_item_that_was_queued_twice_waits_once_and_not_at_all_once_its_job_has_begun(
    services: Services, scrape: Sampled, client: TestClient
) -> None:
    job_id = make_job(services)
    for _ in range(2):
        enqueue(services.redis, TRAINING, job_id)
    assert scrape("hearth_queue_items", queue="training") == 1
    attempt = services.jobs.claim(job_id, "host:1")
    assert scrape("hearth_queue_items", queue="training") == 0
    shown = {queue["queue"]: queue["waiting"] for queue in client.get("/v1/system").json()["queues"]}
    assert shown["training"] == 0
    services.jobs.finish(job_id, attempt, JobStatus.FINISHED)
    assert scrape("hearth_queue_items", queue="training") == 0


def test_attempts_beyond_the_first_are_retries_while_the_job_runs_and_after(
    services: Services, scrape: Sampled
) -> None:
    job_id = make_job(services)
    services.jobs.release(job_id, services.jobs.claim(job_id, "host:1"), "stopped")
    attempt = services.jobs.claim(job_id, "host:2")
    assert scrape("hearth_job_retries_total", kind="finetune") == 1
    services.jobs.finish(job_id, attempt, JobStatus.FAILED, "no")
    assert scrape("hearth_job_retries_total", kind="finetune") == 1


def test_a_job_that_never_ran_has_no_run_time(services: Services, scrape: Sampled) -> None:
    services.jobs.interrupt(make_job(services))
    assert scrape("hearth_jobs", kind="finetune", status="KILLED") == 1
    assert scrape("hearth_job_run_seconds_count", kind="finetune") is None


def test_a_replica_is_ready_only_while_a_node_says_so(services: Services, scrape: Sampled, client: TestClient) -> None:
    spec, _ = services.deployments.desire(
        "default", engine=Engine.VLLM, model_id="a/b", adapter_ids=("x-1",), served_name="LLM"
    )
    assert scrape("hearth_deployment_desired_replicas", deployment="default") == 1
    assert scrape("hearth_deployment_adapters", deployment="default") == 1
    assert scrape("hearth_deployment_ready_replicas", deployment="default") == 0
    assert scrape("hearth_queue_items", queue="inference-llm") == 1
    assert scrape("hearth_workers", queue="inference-llm") == 0
    services.nodes.report(
        NodeReport(
            node_id="h:1",
            deployment="default",
            engine=Engine.VLLM,
            state=DeploymentState.READY,
            url="http://10.0.0.7:41234",
            model_id=spec.model_id,
            generation=spec.generation,
        )
    )
    assert scrape("hearth_deployment_ready_replicas", deployment="default") == 1
    assert client.get("/metrics/targets").json() == [
        {"targets": ["10.0.0.7:41234"], "labels": {"deployment": "default", "runtime": "vllm"}}
    ]
    services.deployments.undeploy("default")
    assert scrape("hearth_deployment_desired_replicas", deployment="default") == 0


def test_a_training_at_work_shows_its_latest_step_and_one_that_is_over_nothing(
    services: Services, scrape: Sampled
) -> None:
    job_id = make_job(services)
    attempt = services.jobs.claim(job_id, "host:1")
    before = None
    for step in (1, 2):
        point = Metric(step=step, max_steps=9, epoch=0.1, loss=3.0 - step, tokens_per_second=50.0, at=now())
        services.finetunes.add_point("x", point, before)
        before = point
    assert scrape("hearth_training_loss", finetune="x") == 1
    assert scrape("hearth_training_tokens_per_second", finetune="x") == 50
    assert scrape("hearth_training_eval_loss", finetune="x") is None
    services.jobs.finish(job_id, attempt, JobStatus.FINISHED)
    assert scrape("hearth_training_loss", finetune="x") is None


def test_what_nodes_counted_is_shown_for_each_deployment(services: Services, scrape: Sampled) -> None:
    for _ in range(2):
        tallies.add(services.redis, "default", {Tally.LOADS: 1, Tally.LOAD_SECONDS: 30.5})
    tallies.add(services.redis, "embedding", {Tally.RESTARTS: 1, Tally.REMOVALS: 2})
    assert scrape("hearth_deployment_load_seconds_count", deployment="default") == 2
    assert scrape("hearth_deployment_load_seconds_sum", deployment="default") == 61
    assert scrape("hearth_deployment_restarts_total", deployment="embedding") == 1
    assert scrape("hearth_deployment_restarts_total", deployment="default") == 0
    assert scrape("hearth_deployment_models_removed_total", deployment="embedding") == 2


def test_calls_of_redis_and_s3_are_timed(services: Services, client: TestClient) -> None:
    before = client.get("/metrics").text
    services.redis.get("x")
    services.s3.list_buckets()
    after = client.get("/metrics").text
    for name, labels in (
        ("hearth_redis_call_duration_seconds_count", {"command": "GET"}),
        ("hearth_s3_call_duration_seconds_count", {"method": "GET"}),
    ):
        assert (sample(after, name, **labels) or 0) > (sample(before, name, **labels) or 0)


def test_with_redis_away_the_page_still_says_what_is_away(home: HomeSettings, s3_settings: S3Settings) -> None:
    nowhere = RedisSettings(redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"))
    client = TestClient(management_app(build_services(ManagementSettings(), home, nowhere, s3_settings)))
    page = client.get("/metrics").text
    assert sample(page, "hearth_dependency_up", dependency="redis") == 0
    assert sample(page, "hearth_dependency_up", dependency="s3") == 1
    assert (sample(page, "hearth_redis_errors_total", error="ConnectionError") or 0) > 0
    assert sample(page, "hearth_jobs", kind="finetune", status="RUNNING") is None


def test_tallies_are_no_reason_to_fail_while_redis_is_away(home: HomeSettings, s3_settings: S3Settings) -> None:
    nowhere = RedisSettings(redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"))
    services = build_services(ManagementSettings(), home, nowhere, s3_settings)
    began = now()
    tallies.add(services.redis, "default", {Tally.SWAPS: 1})
    assert (now() - began).total_seconds() < 10
