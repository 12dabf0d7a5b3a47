"""What a run asks for of a Ray cluster: refused where it cannot be had, and settled where it is left to Hearth."""

from collections.abc import Iterable

from hearth_contracts.errors import Fault, HearthError, Invalid
from hearth_contracts.finetune import Resources
from hearth_contracts.fit import Need, Resource
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
    if asked.sharding == "full" and (unshared := _cannot_be_sharded(settings)) is not None:
        raise _refusal("sharding", f"not with {unshared}", f"sharding=full does not go with {unshared}: leave one out")
    require_cluster(redis, asked)


def require_cluster(redis: Redis, asked: Resources) -> None:
    """Raise Invalid where every training worker is known to have none."""
    executors = said(redis, TRAINING.queue, "executor")
    if asked.need_a_cluster and executors and all(each == "local" for each in executors):
        raise _refusal(
            None, "no Ray cluster",
            "resources are of a Ray cluster, and every training worker here trains on its own machine, on all of its "
            "GPUs: leave them out, or set HEARTH_TRAINING_EXECUTOR=ray",
        )  # fmt: skip


def is_open(asked: Resources) -> bool:
    """Whether it is left to Hearth what each worker holds of the base, and there is a choice."""
    return asked.sharding is None and asked.workers > 1


def settled(settings: Hyperparameters, asked: Resources, needs: Iterable[Need]) -> Resources:
    """The same with the choice made, given what a worker needs that holds the whole base."""
    too_much = any(need.resource is Resource.GPU_MEMORY and need.needed_bytes > need.total_bytes for need in needs)
    full = too_much and asked.gpus_per_worker != 0 and _cannot_be_sharded(settings) is None
    return asked.model_copy(update={"sharding": "full" if full else "none"})


def _cannot_be_sharded(settings: Hyperparameters) -> str | None:
    """The setting that sharding does not go with: PEFT then reads the base's weights where only a part of them is."""
    return next((name for name in ("use_dora", "load_in_4bit") if getattr(settings, name)), None)


def _refusal(field: str | None, fault: str, words: str) -> HearthError:
    return Invalid(words, faults=[Fault(loc=["body", "resources", *filter(None, [field])], msg=fault)])
