"""Who needs a dataset: a fine-tune that waits or runs reads it, perhaps not for the last time."""

from hearth_contracts.datasets import Dataset
from hearth_contracts.errors import Conflict
from hearth_contracts.jobs import JobKind
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.store import JobMissing, JobStore
from redis import Redis

from hearth_dataset.catalogue import Catalogue


def delete_unused(catalogue: Catalogue, redis: Redis, dataset: Dataset) -> None:
    """Delete a dataset. Raises Conflict while a fine-tune on it is queued or running.

    One that is begun in the same instant may still miss its data: its job then fails and says so.
    """
    names = [job_name for dataset_id, job_name in _in_use(redis) if dataset_id == dataset.id]
    if names:
        raise Conflict(f"{', '.join(names)} still needs this dataset; interrupt it or wait for its end")
    catalogue.delete(dataset)


def _in_use(redis: Redis) -> list[tuple[str, str]]:
    """The datasets of fine-tunes that are not over, each with the name of its job."""
    jobs, finetunes = JobStore(redis), FinetuneStore(redis)
    found = []
    for job in jobs.active():
        if job.kind is not JobKind.FINETUNE:
            continue
        try:
            finetune = finetunes.get(jobs.subject(job.id))
        except JobMissing:  # deleted since
            continue
        if finetune is not None:
            found.append((finetune.dataset_id, job.name))
    return found
