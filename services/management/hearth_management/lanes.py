"""The queues as people count them: what waits in each, and who takes from it."""

from hearth_contracts.system import QueueReport
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


def look(services: Services) -> tuple[QueueReport, ...]:
    """Every queue. That of runs which only a cluster can do is one where a worker takes from it, or something waits."""
    found = (
        QueueReport(queue=lane.queue, waiting=_unbegun(services, lane), workers=_workers(services.redis, lane))
        for lane in LANES
    )
    return tuple(each for each in found if each.waiting or each.workers or each.queue != TRAINING_ON_A_CLUSTER.queue)


def _unbegun(services: Services, lane: Lane) -> int:
    """How many items of a lane nobody has begun. What is delivered twice stays in its queue, and counts once."""
    items = waiting(services.redis, lane)
    return len(items & services.jobs.unheld() if lane in OF_JOBS else items)


def _workers(redis: Redis, lane: Lane) -> int:
    """How many workers take items of a lane."""
    return Worker.count(queue=Queue(lane.queue, connection=redis))
