"""What a run asks for of a Ray cluster: refused where it cannot be had."""

from hearth_contracts.errors import Fault, HearthError, Invalid
from hearth_contracts.finetune import Resources
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_jobs.alive import said
from hearth_jobs.queues import TRAINING
from redis import Redis


def check_resources(redis: Redis, settings: Hyperparameters, asked: Resources) -> None:
    """Raise Invalid for what cannot be had."""
    workers = asked.workers
    if (fitting := settings.processes(workers)) != workers:  # each step is of the whole batch, in equal parts
        raise _refusal(
            "workers", f"{fitting} would do",
            f"a batch of {settings.batch_size} rows cannot be split evenly among {workers} workers: "
            f"give a batch_size that can, or ask for {fitting}",
        )  # fmt: skip
    require_cluster(redis, asked)


def require_cluster(redis: Redis, asked: Resources) -> None:
    """Raise Invalid where every training worker is known to have none."""
    executors = said(redis, TRAINING.queue, "executor")
    if asked != Resources() and executors and all(each == "local" for each in executors):
        raise _refusal(
            None, "no Ray cluster",
            "resources are of a Ray cluster, and every training worker here trains on its own machine, on all of its "
            "GPUs: leave them out, or set HEARTH_TRAINING_EXECUTOR=ray",
        )  # fmt: skip


def _refusal(field: str | None, fault: str, words: str) -> HearthError:
    return Invalid(words, faults=[Fault(loc=["body", "resources", *filter(None, [field])], msg=fault)])
