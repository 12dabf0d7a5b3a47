"""Whose turn it is. A queue item is a ticket: whoever draws one begins the training that is first in turn."""

from hearth_jobs.finetunes import FinetuneStore, waiting
from hearth_jobs.queues import TRAINING, enqueue
from hearth_jobs.store import JobStore


def take_turn(jobs: JobStore, finetunes: FinetuneStore, ticket: str) -> str:
    """The job to begin for `ticket`, the id of the job that was queued with it.

    If another that waits comes first, that one is begun, and the ticket queued again for its own job. What does not
    wait (another attempt at a job that has begun, a merge) is its own turn.
    """
    queue = [job.id for job, _ in waiting(jobs, finetunes)]
    if ticket not in queue or queue[0] == ticket:
        return ticket
    enqueue(jobs.redis, TRAINING, ticket)
    return queue[0]
