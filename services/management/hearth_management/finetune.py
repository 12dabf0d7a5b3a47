"""Fine-tunes: planned, recorded and queued here, done by the training worker."""

from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.errors import Conflict, Fault, HearthError, Invalid, NotFound
from hearth_contracts.finetune import Finetune, FinetunePlan, FinetuneRequest, FinetuneStatus
from hearth_contracts.fit import FitReport
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.models import StoredModel
from hearth_contracts.names import adapter_id_for, is_record_id, new_id
from hearth_fit.facts import context_of
from hearth_jobs.finetunes import lane_for, waiting
from hearth_jobs.idempotency import Recorder, no_record
from hearth_jobs.queues import enqueue, transaction
from hearth_storage.datasets import read_dataset
from hearth_storage.model_store import snapshot_path
from hearth_web.asker import asker
from redis.client import Pipeline

from hearth_management.defaults import Facts, is_quantized, read_config, settle
from hearth_management.fit import finetune_report, require_room
from hearth_management.models import require_base
from hearth_management.resources import check_resources, is_open, require_cluster, settled
from hearth_management.services import Services

UNKNOWN = "there is no fine-tune {!r}; GET /v1/finetune/ lists what there is"
PAIRS = (DatasetFormat.PREFERENCE, DatasetFormat.OPENAI_PREFERENCE)
NONE_YET = "there is no fine-tune yet; POST /v1/finetune/ begins one"


def plan(services: Services, request: FinetuneRequest) -> FinetunePlan:
    """What the request would do, with every setting. Raises NotFound, Invalid."""
    base = require_base(services, request.model_id)
    dataset = require_dataset(services, request.dataset_id)
    asked = request.hyperparameters
    if asked.validation_dataset_id is not None:
        require_dataset(services, asked.validation_dataset_id)
    config = read_config(snapshot_path(services.home.models, base))
    context = context_of(config)
    if is_quantized(config):
        raise Invalid(
            f"{base.model_id} is quantized; train on the model it was made from",
            faults=[Fault(loc=["body", "model_id"], msg="quantized")],
        )
    _check(services, asked, base, context)
    _check_rows(asked, dataset)
    settings = settle(asked, Facts(rows=dataset.rows, model_bytes=base.size_bytes, context=context))
    check_resources(services.redis, settings, request.resources)
    planned = FinetunePlan(
        model_id=base.model_id,
        dataset_id=dataset.id,
        rows=dataset.rows,
        steps=settings.steps(dataset.rows - settings.kept_back(dataset.rows)),
        hyperparameters=settings,
        resources=request.resources,
        chosen=tuple(name for name in Hyperparameters.model_fields if name not in asked.model_fields_set),
    )
    if not is_open(request.resources):
        return planned
    needs = _takes(services, planned).needs
    return planned.model_copy(update={"resources": settled(settings, request.resources, needs)})


def _check(services: Services, asked: Hyperparameters, base: StoredModel, context: int | None) -> None:
    limit = services.settings.max_lora_rank
    if asked.lora_rank > limit:
        raise _refusal(
            "lora_rank", f"at most {limit}",
            f"an adapter of rank {asked.lora_rank} could not be deployed; lora_rank is at most {limit}",
        )  # fmt: skip
    if context is not None and asked.max_length > context and "max_length" in asked.model_fields_set:
        raise _refusal("max_length", f"at most {context}", f"{base.model_id} takes at most {context} tokens")
    if {"learning_rate", "learning_rate_multiplier"} <= asked.model_fields_set:
        raise _refusal(
            "learning_rate_multiplier", "not beside learning_rate",
            "learning_rate_multiplier scales the learning rate that Hearth chooses; give it or learning_rate, not both",
        )  # fmt: skip


def _check_rows(asked: Hyperparameters, dataset: Dataset) -> None:
    """A method learns from rows of its own kind."""
    if asked.method == "dpo" and dataset.format not in PAIRS:
        raise _refusal(
            "method", "dpo needs preference pairs",
            f"dpo learns from preference pairs, and the rows of dataset {dataset.id} are {dataset.format}: "
            "upload rows with `chosen` and `rejected`, or leave method out",
        )  # fmt: skip


def _refusal(field: str, fault: str, words: str) -> HearthError:
    return Invalid(words, faults=[Fault(loc=["body", "hyperparameters", field], msg=fault)])


def require_dataset(services: Services, dataset_id: str) -> Dataset:
    """A dataset that is there. Raises NotFound."""
    dataset = read_dataset(services.s3, dataset_id) if is_record_id(dataset_id) else None
    if dataset is None or not asker().may_use(dataset.owner):
        raise NotFound(f"there is no dataset {dataset_id!r}; GET /v1/datasets/ lists what there is")
    return dataset


def estimate(services: Services, request: FinetuneRequest) -> FitReport:
    """What such a fine-tune would take. Raises NotFound, Invalid."""
    return _takes(services, plan(services, request))


def _takes(services: Services, planned: FinetunePlan | Finetune) -> FitReport:
    settings, resources = planned.hyperparameters, planned.resources
    share = settings.batch_size // resources.workers
    rows = min(8, share)  # the trainer's most at once, unless the batch is split otherwise
    if settings.gradient_accumulation_steps is not None:
        rows = share // settings.gradient_accumulation_steps
    modules = settings.target_modules
    return finetune_report(
        services,
        require_base(services, planned.model_id),
        require_dataset(services, planned.dataset_id),
        rank=settings.lora_rank,
        rows_at_once=2 * rows if settings.method == "dpo" else rows,  # what is preferred, and what is not
        max_length=settings.max_length,
        target_modules=None if modules == "all-linear" else tuple(modules),
        packing=settings.packing,
        load_in_4bit=settings.load_in_4bit,
        shards=resources.workers if resources.sharding == "full" else 1,
    )


def begin(services: Services, request: FinetuneRequest, remember: Recorder = no_record) -> Job:
    """Record a fine-tune with its job and queue it, in one transaction. Raises NotFound, Invalid, Conflict."""
    planned = plan(services, request)
    require_room(services, f"training on {planned.model_id}", _takes(services, planned))
    finetune_id = new_id()
    pipe = transaction(services.redis)
    job = _create_job(services, pipe, planned.model_id, planned.dataset_id, finetune_id)
    record = Finetune(
        id=finetune_id,
        name=request.name,
        model_id=planned.model_id,
        dataset_id=planned.dataset_id,
        adapter_id=adapter_id_for(request.name, finetune_id),
        hyperparameters=planned.hyperparameters,
        resources=planned.resources,
        job_id=job.id,
        priority=request.priority,
        deploy=request.deploy,
        metadata=request.metadata,
        created_at=now(),
    )
    services.finetunes.put(pipe, record)
    enqueue(services.redis, lane_for(record), job.id, pipe=pipe)
    remember(pipe, job)
    if record.deploy:
        services.finetunes.await_deployment(pipe, record.id)
    pipe.execute()
    return job


def resume(services: Services, finetune_id: str, remember: Recorder = no_record) -> Job:
    """Queue a job that goes on from the last checkpoint.

    Raises NotFound, also when its base or dataset is gone; Conflict for what has not ended early or has no room now;
    Invalid for one of a Ray cluster that is no more.

    Of two requests at once one is refused.
    """
    made: list[Job] = []

    def again(pipe: Pipeline, record: Finetune) -> None:
        before = services.jobs.get(record.job_id)
        if before.status not in (JobStatus.KILLED, JobStatus.FAILED):
            raise Conflict(
                f"fine-tune {record.id} is {before.status}; only one that was KILLED or has FAILED can be resumed"
            )
        require_cluster(services.redis, record.resources)
        require_room(services, f"training on {record.model_id}", _takes(services, record))
        job = _create_job(services, pipe, record.model_id, record.dataset_id, record.id)
        enqueue(services.redis, lane_for(record), job.id, pipe=pipe)
        jobs = (*record.previous_job_ids, record.job_id)
        services.finetunes.put(pipe, record.model_copy(update={"job_id": job.id, "previous_job_ids": jobs}))
        remember(pipe, job)
        if record.deploy:
            services.finetunes.await_deployment(pipe, record.id)
        made[:] = [job]

    try:
        services.finetunes.change(finetune_id, again)
    except KeyError:
        raise NotFound(UNKNOWN.format(finetune_id)) from None
    return made[0]


def _create_job(services: Services, pipe: Pipeline, model_id: str, dataset_id: str, finetune_id: str) -> Job:
    name = f"FT_{model_id}_{dataset_id}"
    return services.jobs.create(pipe, kind=JobKind.FINETUNE, name=name, subject=finetune_id)


def list_all(services: Services) -> list[FinetuneStatus]:
    """Every fine-tune, newest first."""
    places = _places(services)
    return [_status(services, record, places) for record in services.finetunes.all()]


def get(services: Services, finetune_id: str) -> FinetuneStatus:
    """One fine-tune. Raises NotFound."""
    record = services.finetunes.get(finetune_id)
    if record is None:
        raise NotFound(UNKNOWN.format(finetune_id))
    return _status(services, record, _places(services))


def latest(services: Services) -> FinetuneStatus:
    """The newest fine-tune with its job. Raises NotFound."""
    record = services.finetunes.latest()
    if record is None:
        raise NotFound(NONE_YET)
    return _status(services, record, _places(services))


def _places(services: Services) -> dict[str, int]:
    """For each job that waits, its place in the queue."""
    queue = waiting(services.jobs, services.finetunes)
    return {job.id: place for place, (job, _) in enumerate(queue, start=1)}


def _status(services: Services, record: Finetune, places: dict[str, int]) -> FinetuneStatus:
    checkpoint_step, result = services.finetunes.facts(record.id)
    return FinetuneStatus(
        **dict(record),
        job=services.jobs.get(record.job_id),
        position=places.get(record.job_id),
        checkpoint_step=checkpoint_step,
        result=result,
    )


def interrupt(services: Services) -> Job:
    """Interrupt the newest fine-tune; idempotent. Raises NotFound."""
    return services.jobs.interrupt(latest(services).job.id)
