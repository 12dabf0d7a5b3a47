"""Fine-tunes: recorded and queued here, done by the training worker."""

from hearth_contracts.base import now
from hearth_contracts.errors import Fault, Invalid, NotFound
from hearth_contracts.finetune import Finetune, FinetuneRequest, FinetuneStatus
from hearth_contracts.jobs import Job, JobKind
from hearth_contracts.names import adapter_id_for, is_record_id, new_id
from hearth_jobs.queues import TRAINING, enqueue, transaction
from hearth_storage.objects import DATASETS, read_object

from hearth_management.models import require_base
from hearth_management.services import Services

NONE_YET = "there is no fine-tune yet; POST /v1/finetune/ begins one"


def begin(services: Services, request: FinetuneRequest) -> Job:
    """Record a fine-tune with its job and queue it, in one transaction. Raises NotFound, Invalid."""
    base = require_base(services, request.model_id)
    rank, limit = request.hyperparameters.lora_rank, services.settings.max_lora_rank
    if rank > limit:
        fault = Fault(loc=["body", "hyperparameters", "lora_rank"], msg=f"at most {limit}")
        raise Invalid(f"an adapter of rank {rank} could not be deployed; lora_rank is at most {limit}", faults=[fault])
    dataset_id = request.dataset_id
    if not is_record_id(dataset_id) or read_object(services.s3, DATASETS, f"{dataset_id}/metadata.json") is None:
        raise NotFound(f"there is no dataset {dataset_id!r}; GET /v1/datasets/ lists what there is")
    finetune_id = new_id()
    pipe = transaction(services.redis)
    name = f"FT_{base.model_id}_{dataset_id}"
    job = services.jobs.create(pipe, kind=JobKind.FINETUNE, name=name, subject=finetune_id)
    record = Finetune(
        id=finetune_id,
        name=request.name,
        model_id=base.model_id,
        dataset_id=dataset_id,
        adapter_id=adapter_id_for(request.name, finetune_id),
        hyperparameters=request.hyperparameters,
        job_id=job.id,
        created_at=now(),
    )
    services.finetunes.put(pipe, record)
    enqueue(services.redis, TRAINING, job.id, pipe=pipe)
    pipe.execute()
    return job


def latest(services: Services) -> FinetuneStatus:
    """The newest fine-tune with its job. Raises NotFound."""
    record = services.finetunes.latest()
    if record is None:
        raise NotFound(NONE_YET)
    return FinetuneStatus(
        id=record.id,
        name=record.name,
        model_id=record.model_id,
        dataset_id=record.dataset_id,
        job=services.jobs.get(record.job_id),
        adapter_id=record.adapter_id,
        hyperparameters=record.hyperparameters,
    )


def interrupt(services: Services) -> Job:
    """Interrupt the newest fine-tune; idempotent. Raises NotFound."""
    return services.jobs.interrupt(latest(services).job.id)
