"""How many engines the load of a deployment takes, recorded: safe for several that decide it at once."""

from collections.abc import Callable

from pydantic import RootModel
from redis import Redis
from redis.client import Pipeline

from hearth_jobs import keys
from hearth_jobs.deployment_record import ByLoad, Deployment, read_record

ADVICE_SECONDS = 30.0
"""Looks further apart than that say nothing of the time between them: what they found is forgotten."""


class Advice(RootModel[tuple[tuple[float, int], ...]]):
    """How many engines the load took, and since when, oldest first; the last is so until now."""

    root: tuple[tuple[float, int], ...] = ()


Step = Callable[[Deployment, Advice], tuple[ByLoad | None, Advice]]


def rescale(redis: Redis, name: str, step: Step) -> None:
    """Record what `step` makes of a deployment that scales by load, and of the advice until now.

    It is asked anew when somebody else changed one of them meanwhile, and not at all when the deployment sleeps, is not
    desired, or does not scale by load any more.
    """

    def change(pipe: Pipeline) -> None:
        record = read_record(name, pipe.hgetall(keys.deployment(name)))
        before = Advice.model_validate_json(pipe.get(keys.advice(name)) or b"[]")
        pipe.multi()
        if record is None or record.desired is None or record.is_asleep or not record.max_replicas:
            return
        by_load, advice = step(record, before)
        pipe.set(keys.advice(name), advice.model_dump_json(), px=int(ADVICE_SECONDS * 1000))
        if by_load is not None and by_load != record.by_load:
            pipe.hset(keys.deployment(name), "by_load", by_load.model_dump_json())
            pipe.publish(keys.WAKE, name)

    redis.transaction(change, keys.deployment(name), keys.advice(name))
