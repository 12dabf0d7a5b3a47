"""RQ's part: carrying work to whoever has a hand free. An item is only a name; the truth is in the job store.

An item may be delivered twice, late or never. Twice and late do no harm, since work begins with a claim; for
never, the reconciler looks for jobs that wait for a worker without an item.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.serializers import JSONSerializer


@dataclass(frozen=True)
class Lane:
    """A queue and the function that its workers run on each item."""

    queue: str
    function: str  # dotted path, imported by the worker alone


DOWNLOADS = Lane("downloads", "hearth_management.downloads.run")
TRAINING = Lane("training", "hearth_training.runs.run")
TRAINING_ON_A_CLUSTER = Lane("training-cluster", "hearth_training.runs.run")
"""Runs that only a worker with a Ray cluster can do; such a worker takes from both."""
INFERENCE_LLM = Lane("inference-llm", "hearth_inference.serve.run")
INFERENCE_EMBEDDING = Lane("inference-embedding", "hearth_inference.serve.run")


def transaction(redis: Redis) -> Pipeline:
    """A pipe whose commands happen together; RQ asks that MULTI is said before the first of them."""
    pipe = redis.pipeline(transaction=True)
    pipe.multi()
    return pipe


def enqueue(
    redis: Redis, lane: Lane, item: str, pipe: Pipeline | None = None, more: Sequence[Sequence[str]] = ()
) -> None:
    """Queue `item`, and what `more` the function takes; with a pipe, as part of that transaction."""
    queue = Queue(lane.queue, connection=redis, serializer=JSONSerializer)
    queue.enqueue_call(
        lane.function,
        args=(item, *more),
        timeout=-1,
        result_ttl=0,
        failure_ttl=3600,
        job_id=f"{item}_{uuid4().hex}",
        description=item,
        pipeline=pipe,
    )


def waiting(redis: Redis, lane: Lane) -> set[str]:
    """The items that wait in a lane for a worker."""
    return set(counted(redis, lane))


def counted(redis: Redis, lane: Lane) -> Counter[str]:
    """The same, and how often each waits: a deployment may be queued once for each of its replicas."""
    queue = Queue(lane.queue, connection=redis, serializer=JSONSerializer)
    return Counter(ticket.rpartition("_")[0] for ticket in queue.get_job_ids())
