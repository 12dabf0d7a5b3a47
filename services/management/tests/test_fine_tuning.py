"""OpenAI's fine-tuning over ours, asked by OpenAI's own client; the worker's part is played by the test."""

import hashlib
from collections.abc import Callable
from io import BytesIO

import openai
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.deploy import DeployRequest
from hearth_contracts.fine_tuning import finetune_id_of
from hearth_contracts.finetune import Finetune, FinetuneResult, Metric
from hearth_contracts.jobs import JobStatus
from hearth_contracts.names import new_id
from hearth_contracts.openai import file_id
from hearth_jobs.deployments import LLM_DEPLOYMENT
from hearth_management import deploy
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services
from hearth_storage.objects import DATASETS
from minio import Minio
from openai.types.fine_tuning import FineTuningJob

BASE = "acme/llm"
CURVE = ((1, 4.0), (2, 2.0), (3, 0.5))


@pytest.fixture
def jobs(client: TestClient) -> openai.resources.fine_tuning.Jobs:
    made = openai.OpenAI(base_url="http://testserver/v1", api_key="unused", http_client=client, max_retries=0)
    return made.fine_tuning.jobs


@pytest.fixture
def file(s3: Minio, put_model: Callable[..., None]) -> str:
    """A file that can be trained on, and a base to train."""
    put_model(BASE)
    dataset_id = new_id()
    dataset = Dataset(
        id=dataset_id, name="train.jsonl", s3_path=f"{dataset_id}/metadata.json", description=None,
        format=DatasetFormat.MESSAGES, rows=16, turns=32, bytes=3, sha256=hashlib.sha256(b"{}\n").hexdigest(),
        created_at=now(),
    )  # fmt: skip
    body = dataset.model_dump_json().encode()
    s3.put_object(bucket_name=DATASETS, object_name=f"{dataset_id}/metadata.json", data=BytesIO(body), length=len(body))
    return file_id(dataset_id)


@pytest.fixture
def train(services: Services, put_adapter: Callable[..., None]) -> Callable[[str], Finetune]:
    """What the worker does with a job: the curve, the adapter, the result, the end."""

    def do(job: str) -> Finetune:
        finetune_id = finetune_id_of(job)
        assert finetune_id is not None
        record = services.finetunes.get(finetune_id)
        assert record is not None
        attempt = services.jobs.claim(record.job_id, "worker")
        before = None
        for step, loss in CURVE:
            before, point = None, Metric(step=step, max_steps=3, epoch=1, loss=loss, at=now())
            services.finetunes.add_point(record.id, point, before)
        put_adapter(record.adapter_id, record.model_id)
        result = FinetuneResult(steps=3, train_loss=2.1, tokens=960, seconds=1, eval_loss=0.7)
        services.finetunes.set_result(record.id, result)
        services.jobs.finish(record.job_id, attempt, JobStatus.FINISHED)
        return record

    return do


@pytest.fixture
def once(services: Services) -> Callable[[], None]:
    return Reconciler(services).once


def serve(services: Services, model_id: str = BASE) -> None:
    """Deploy, and say that it answers, as a node would."""
    deploy.deploy(services, DeployRequest(model_id=model_id))
    settle(services)


def settle(services: Services) -> None:
    record = services.deployments.get(LLM_DEPLOYMENT)
    assert record is not None
    assert record.desired is not None
    services.deployments.settle(record.desired)


def adapters(services: Services) -> tuple[str, ...]:
    record = services.deployments.get(LLM_DEPLOYMENT)
    assert record is not None
    assert record.desired is not None
    return record.desired.adapter_ids


def test_a_job_is_a_fine_tune_with_its_settings(
    jobs: openai.resources.fine_tuning.Jobs, services: Services, file: str
) -> None:
    made = jobs.create(
        model=BASE,
        training_file=file,
        suffix="support",
        seed=7,
        metadata={"team": "a"},
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5},
            },
        },
    )
    assert (made.object, made.status, made.model, made.training_file) == ("fine_tuning.job", "queued", BASE, file)
    assert (made.seed, made.metadata, made.fine_tuned_model, made.error) == (7, {"team": "a"}, None, None)
    assert made.method is not None
    assert made.method.type == "supervised"
    assert (made.hyperparameters.n_epochs, made.hyperparameters.learning_rate_multiplier) == (2, 0.5)
    assert isinstance(made.hyperparameters.batch_size, int)  # what "auto" came to
    record = services.finetunes.latest()
    assert record is not None
    assert record.adapter_id.startswith("support-")
    assert jobs.retrieve(made.id) == made


def test_it_goes_from_queued_to_a_model_that_can_be_called(
    jobs: openai.resources.fine_tuning.Jobs,
    services: Services,
    file: str,
    train: Callable[[str], Finetune],
    once: Callable[[], None],
) -> None:
    serve(services)
    made = jobs.create(model="Compressa-LLM", training_file=file)  # the deployed base by its served name
    assert made.model == BASE
    record = train(made.id)
    assert jobs.retrieve(made.id).status == "running"  # trained, and nobody can call it yet
    once()
    assert adapters(services) == (record.adapter_id,)
    once()
    assert jobs.retrieve(made.id).status == "running"  # the engine loads it
    settle(services)
    once()
    done = jobs.retrieve(made.id)
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", record.adapter_id, 960)
    assert done.finished_at is not None
    once()
    assert adapters(services) == (record.adapter_id,)


def succeeded(jobs: openai.resources.fine_tuning.Jobs, job: str) -> str:
    """The deployment's outcome, of a job that is over although its model is not served."""
    shown = jobs.retrieve(job)
    assert shown.status == "succeeded"
    assert shown.fine_tuned_model is not None
    return next(event.message for event in jobs.list_events(job).data if event.id.endswith("-deployment"))


def test_with_nothing_or_another_base_deployed_it_is_trained_and_says_why_it_is_not_served(
    jobs: openai.resources.fine_tuning.Jobs,
    services: Services,
    file: str,
    train: Callable[[str], Finetune],
    once: Callable[[], None],
    put_model: Callable[..., None],
) -> None:
    made = jobs.create(model=BASE, training_file=file)
    train(made.id)
    once()
    assert "POST /v1/deploy/" in succeeded(jobs, made.id)
    put_model("acme/other")
    serve(services, "acme/other")
    made = jobs.create(model=BASE, training_file=file)
    train(made.id)
    once()
    assert "acme/other is" in succeeded(jobs, made.id)
    assert adapters(services) == ()


def test_a_deployment_under_way_is_waited_for_and_one_that_fails_is_not_tried_again(
    jobs: openai.resources.fine_tuning.Jobs,
    services: Services,
    file: str,
    train: Callable[[str], Finetune],
    once: Callable[[], None],
) -> None:
    deploy.deploy(services, DeployRequest(model_id=BASE))  # it never answers
    made = jobs.create(model=BASE, training_file=file)
    train(made.id)
    once()
    assert adapters(services) == ()
    assert jobs.retrieve(made.id).status == "running"
    settle(services)
    once()
    record = services.deployments.get(LLM_DEPLOYMENT)
    assert record is not None
    assert record.desired is not None
    services.deployments.give_up(record.desired, "the engine has no room")
    once()
    once()
    assert "the engine has no room" in succeeded(jobs, made.id)
    assert adapters(services) == ()


def test_deploying_can_be_declined(
    jobs: openai.resources.fine_tuning.Jobs,
    services: Services,
    file: str,
    train: Callable[[str], Finetune],
    once: Callable[[], None],
) -> None:
    serve(services)
    made = jobs.create(model=BASE, training_file=file, extra_body={"deploy": False})
    train(made.id)
    assert jobs.retrieve(made.id).status == "succeeded"
    once()
    assert adapters(services) == ()


def test_events_and_checkpoints_tell_the_curve(
    jobs: openai.resources.fine_tuning.Jobs, file: str, train: Callable[[str], Finetune]
) -> None:
    made = jobs.create(model=BASE, training_file=file, extra_body={"deploy": False})
    assert [event.message for event in jobs.list_events(made.id)] == [f"Created fine-tuning job: {made.id}"]
    assert jobs.checkpoints.list(made.id).data == []
    record = train(made.id)
    told = list(jobs.list_events(made.id, limit=2))  # the client asks for page after page
    assert told[-1].message.startswith("Created")
    assert [event.data["train_loss"] for event in told[::-1] if event.type == "metrics"] == [4.0, 2.0, 0.5]  # type: ignore[index]
    assert len({event.id for event in told}) == len(told)
    checkpoint = jobs.checkpoints.list(made.id).data[0]
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == (record.adapter_id, 3)
    assert (checkpoint.metrics.train_loss, checkpoint.metrics.full_valid_loss) == (2.1, 0.7)


def test_jobs_are_listed_in_pages_and_by_metadata(jobs: openai.resources.fine_tuning.Jobs, file: str) -> None:
    made = [jobs.create(model=BASE, training_file=file, metadata={"n": str(number)}) for number in range(3)]
    assert [job.id for job in jobs.list(limit=2)] == [job.id for job in made[::-1]]
    assert jobs.list(limit=2).has_more
    assert [job.id for job in jobs.list(metadata={"n": "1"})] == [made[1].id]


def test_a_cancelled_job_can_be_resumed(
    jobs: openai.resources.fine_tuning.Jobs, file: str, train: Callable[[str], Finetune]
) -> None:
    made = jobs.create(model=BASE, training_file=file, extra_body={"deploy": False})
    assert jobs.cancel(made.id).status == "cancelled"
    assert jobs.pause(made.id).status == "cancelled"  # again: nothing changes
    assert jobs.list_events(made.id).data[0].level == "warn"
    assert jobs.resume(made.id).status == "queued"
    train(made.id)
    for act in (jobs.cancel, jobs.resume):
        with pytest.raises(openai.BadRequestError):
            act(made.id)


def test_a_failed_job_says_why(jobs: openai.resources.fine_tuning.Jobs, services: Services, file: str) -> None:
    made = jobs.create(model=BASE, training_file=file)
    record = services.finetunes.latest()
    assert record is not None
    attempt = services.jobs.claim(record.job_id, "worker")
    assert jobs.retrieve(made.id).status == "validating_files"
    services.jobs.report(record.job_id, attempt, progress=0.5, eta_seconds=60)
    running = jobs.retrieve(made.id)
    assert (running.status, running.estimated_finish is not None) == ("running", True)
    services.jobs.finish(record.job_id, attempt, JobStatus.FAILED, "line 3 cannot be learnt from")
    failed = jobs.retrieve(made.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.message == "line 3 cannot be learnt from"
    assert jobs.list_events(made.id).data[0].level == "error"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"training_file": "file-nothing"}, "training_file"),
        ({"validation_file": file_id(new_id())}, "validation_file"),
        ({"method": {"type": "reinforcement"}}, "method"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 0}}}}, "method"),
        ({"hyperparameters": {"lora_rank": 256}}, "hyperparameters"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations"),
    ],
)
def test_what_cannot_be_is_openais_400(
    jobs: openai.resources.fine_tuning.Jobs, services: Services, file: str, change: dict[str, object], param: str
) -> None:
    asked = {"model": BASE, "training_file": file, **change}
    with pytest.raises(openai.BadRequestError) as refusal:
        jobs._post("/fine_tuning/jobs", body=asked, cast_to=FineTuningJob)
    assert refusal.value.param == param
    assert services.jobs.all() == []


def test_an_unknown_model_or_job_is_openais_404(jobs: openai.resources.fine_tuning.Jobs, file: str) -> None:
    with pytest.raises(openai.NotFoundError, match=f"there are: {BASE}") as refusal:
        jobs.create(model="gpt-nothing", training_file=file)
    assert (refusal.value.param, refusal.value.code) == ("model", "model_not_found")
    for given in ("ftjob-nothing", f"ftjob-{new_id()}", new_id()):
        for act in (jobs.retrieve, jobs.cancel, jobs.resume, jobs.list_events, jobs.checkpoints.list):
            with pytest.raises(openai.NotFoundError):
                act(given)
