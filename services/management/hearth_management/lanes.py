"""The queues as people count them: what waits in each, and who takes from it."""

from hearth_jobs.queues import (
    DOWNLOADS,
    INFERENCE_EMBEDDING,
    INFERENCE_LLM,
    TRAINING,
    TRAINING_ON_A_CLUSTER,
    Lane,
    waiting,
)
from redis import Redis
from rq import Queue, Worker

from hearth_management.services import Services

LANES = (DOWNLOADS, TRAINING, TRAINING_ON_A_CLUSTER, INFERENCE_LLM, INFERENCE_EMBEDDING)
OF_JOBS = (DOWNLOADS, TRAINING, TRAINING_ON_A_CLUSTER)
"""Those whose items are jobs."""


def unbegun(services: Services, lane: Lane) -> int:
    """How many items of a lane nobody has begun. What is delivered twice stays in its queue, and counts once."""
    items = waiting(services.redis, lane)
    return len(items & services.jobs.unheld() if lane in OF_JOBS else items)


def workers_of(redis: Redis, lane: Lane) -> int:
    """How many workers take items of a lane."""
    return Worker.count(queue=Queue(lane.queue, connection=redis))
