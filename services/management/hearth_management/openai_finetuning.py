"""OpenAI's fine-tuning over local training: the same fine-tunes, jobs and adapters under OpenAI's names."""

import time
from typing import Any

from hearth_contracts.errors import BadRequest, HearthError, NotFound
from hearth_contracts.fine_tuning import (
    CheckpointMetrics,
    FineTuningJob,
    JobCheckpoint,
    JobEvent,
    JobFault,
    JobRequest,
    JobState,
    MethodSettingsUsed,
    MethodUsed,
    SettingsUsed,
    StepData,
    finetune_id_of,
    job_id,
)
from hearth_contracts.finetune import FinetuneRequest, FinetuneStatus, Metric
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobStatus
from hearth_contracts.openai import dataset_id_of, file_id
from hearth_jobs.deployments import LLM_DEPLOYMENT

from hearth_management import finetune
from hearth_management.models import require_base
from hearth_management.services import Services

OVER: dict[JobStatus, JobState] = {
    JobStatus.FINISHED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.KILLED: "cancelled",
}


def create(services: Services, request: JobRequest) -> FineTuningJob:
    """Begin a fine-tune. Raises NotFound for the model, BadRequest for what else cannot be."""
    model_id = _base_of(services, request.model)
    training_file = _dataset(services, request.training_file, "training_file")
    name = request.suffix or model_id.rpartition("/")[2]
    finetune_request = FinetuneRequest(
        name=name,
        model_id=model_id,
        dataset_id=training_file,
        hyperparameters=_settings(services, request),
        metadata=request.metadata or {},
        deploy=request.deploy,
    )
    try:
        job = finetune.begin(services, finetune_request)
    except HearthError as refusal:
        raise BadRequest(refusal.detail, param="hyperparameters") from refusal
    return show(services, finetune.get(services, services.jobs.subject(job.id)))


def _base_of(services: Services, model: str) -> str:
    """The base model that a client means. Raises NotFound."""
    if model == services.settings.llm_name:
        record = services.deployments.get(LLM_DEPLOYMENT)
        if record is not None and record.desired is not None:
            return record.desired.model_id
    try:
        return require_base(services, model).model_id
    except HearthError as refusal:
        raise NotFound(refusal.detail, param="model", code="model_not_found") from None


def _dataset(services: Services, file: str, param: str) -> str:
    """The dataset of a file. Raises BadRequest, as OpenAI does for a file that is not there."""
    dataset_id = dataset_id_of(file)
    try:
        if dataset_id is not None:
            return finetune.require_dataset(services, dataset_id).id
    except NotFound:
        pass
    raise BadRequest(f"invalid {param}: there is no file {file!r}", param=param, code="invalid_file")


def _settings(services: Services, request: JobRequest) -> Hyperparameters:
    method = request.method
    asked = (method.hyperparameters if method else None) or request.hyperparameters or Hyperparameters()
    given: dict[str, Any] = {name: getattr(asked, name) for name in asked.model_fields_set}
    given["method"] = "dpo" if method and method.type == "dpo" else "sft"
    if request.seed is not None:
        given["seed"] = request.seed
    if request.validation_file is not None:
        given["validation_dataset_id"] = _dataset(services, request.validation_file, "validation_file")
    try:
        return Hyperparameters.model_validate(given)
    except ValueError as error:
        raise BadRequest(f"the hyperparameters do not fit together: {error}", param="hyperparameters") from error


def find(services: Services, given: str) -> FinetuneStatus:
    """The fine-tune of a fine-tuning job's id. Raises NotFound."""
    finetune_id = finetune_id_of(given)
    try:
        if finetune_id is not None:
            return finetune.get(services, finetune_id)
    except NotFound:
        pass
    raise NotFound(f"Could not find fine tune: {given}", param="fine_tuning_job_id", code="fine_tune_not_found")


def list_all(services: Services, metadata: dict[str, str]) -> list[FineTuningJob]:
    """Every job that has all of this metadata, newest first."""
    found = [record for record in finetune.list_all(services) if metadata.items() <= record.metadata.items()]
    return [show(services, record) for record in found]


def cancel(services: Services, given: str) -> FineTuningJob:
    """Interrupt the job; what it learnt so far is kept. Raises NotFound, and BadRequest when it is over."""
    record = find(services, given)
    if record.job.status in (JobStatus.FINISHED, JobStatus.FAILED):
        raise BadRequest(f"{given} is over already: it has {OVER[record.job.status]}", code="job_is_over")
    services.jobs.interrupt(record.job_id)
    return show(services, find(services, given))


def resume(services: Services, given: str) -> FineTuningJob:
    """Go on from the last checkpoint. Raises NotFound, and BadRequest for what was not cancelled and has not failed."""
    record = find(services, given)
    try:
        finetune.resume(services, record.id)
    except HearthError as refusal:
        raise BadRequest(refusal.detail, code="job_cannot_be_resumed") from refusal
    return show(services, find(services, given))


def show(services: Services, record: FinetuneStatus) -> FineTuningJob:
    """A fine-tune as OpenAI's job."""
    job, state = record.job, state_of(services, record)
    done = state == "succeeded"
    settings = record.hyperparameters
    validation = settings.validation_dataset_id
    used = SettingsUsed(
        n_epochs=settings.n_epochs,
        batch_size=settings.batch_size,
        learning_rate_multiplier=settings.learning_rate_multiplier,
    )
    settings_used = MethodSettingsUsed(hyperparameters=used)
    return FineTuningJob(
        id=job_id(record.id),
        created_at=int(record.created_at.timestamp()),
        finished_at=int(job.finished_at.timestamp()) if job.finished_at and state in OVER.values() else None,
        estimated_finish=int(time.time() + job.eta_seconds) if job.eta_seconds and state == "running" else None,
        model=record.model_id,
        fine_tuned_model=record.adapter_id if done else None,
        status=state,
        error=JobFault(code="training_failed", message=job.error or "") if state == "failed" else None,
        training_file=file_id(record.dataset_id),
        validation_file=file_id(validation) if validation else None,
        trained_tokens=record.result.tokens if done and record.result else None,
        hyperparameters=used,
        method=MethodUsed(type="dpo", dpo=settings_used)
        if settings.method == "dpo"
        else MethodUsed(type="supervised", supervised=settings_used),
        seed=settings.seed,
        metadata=record.metadata,
    )


def state_of(services: Services, record: FinetuneStatus) -> JobState:
    """OpenAI's status. It is `validating_files` until the first step, and `running` until the model can be called."""
    status = record.job.status
    if status is JobStatus.CREATED:
        return "queued"
    if status is JobStatus.FINISHED and services.finetunes.awaits_deployment(record.id):
        return "running"
    if status.is_over:
        return OVER[status]
    return "running" if record.job.progress > 0 else "validating_files"


def events(services: Services, given: str) -> list[JobEvent]:
    """What happened to the job so far, newest first. Raises NotFound."""
    record = find(services, given)
    job = record.job

    def event(key: str, at: float, message: str, **more: Any) -> JobEvent:
        return JobEvent(id=f"ftevent-{record.id}-{key}", created_at=int(at), message=message, **more)

    told = [event("created", record.created_at.timestamp(), f"Created fine-tuning job: {job_id(record.id)}")]
    if job.attempt:
        told.append(event("started", job.started_at.timestamp(), "Fine-tuning job started"))
    for point in services.finetunes.points(record.id):
        told.append(event(f"step-{point.step}", point.at.timestamp(), _words(point), type="metrics", data=_data(point)))
    if job.finished_at is not None:
        at = job.finished_at.timestamp()
        told += [event(key, at, message, **more) for key, message, more in _ends(services, record, job)]
    return told[::-1]


def _words(point: Metric) -> str:
    loss = "" if point.loss is None else f": training loss={point.loss:.4f}"
    validation = "" if point.eval_loss is None else f", validation loss={point.eval_loss:.4f}"
    return f"Step {point.step}/{point.max_steps}{loss}{validation}"


def _data(point: Metric) -> StepData:
    return StepData(step=point.step, total_steps=point.max_steps, train_loss=point.loss, valid_loss=point.eval_loss)


def _ends(services: Services, record: FinetuneStatus, job: Job) -> list[tuple[str, str, dict[str, Any]]]:
    """The last events, each a key, its words, and its level."""
    if job.status is JobStatus.FAILED:
        return [("failed", job.error or "The job failed", {"level": "error"})]
    if job.status is JobStatus.KILLED:
        return [("cancelled", "The job was cancelled", {"level": "warn"})]
    made: list[tuple[str, str, dict[str, Any]]] = [("model", f"New fine-tuned model created: {record.adapter_id}", {})]
    deployment = services.finetunes.deployment_words(record.id)
    if deployment:
        made.append(("deployment", deployment, {}))
    return made if services.finetunes.awaits_deployment(record.id) else [*made, ("done", "The job has completed", {})]


def checkpoints(services: Services, given: str) -> list[JobCheckpoint]:
    """What can be deployed of the job: its end, once it has one. Raises NotFound."""
    record = find(services, given)
    result = record.result
    if result is None or record.job.finished_at is None or record.job.status is not JobStatus.FINISHED:
        return []
    return [
        JobCheckpoint(
            id=f"ftckpt-{record.id}",
            created_at=int(record.job.finished_at.timestamp()),
            fine_tuned_model_checkpoint=record.adapter_id,
            fine_tuning_job_id=job_id(record.id),
            step_number=result.steps,
            metrics=CheckpointMetrics(
                step=result.steps, train_loss=result.train_loss, full_valid_loss=result.eval_loss
            ),
        )
    ]
