"""Whose turn it is. A queue item is a ticket: whoever draws one begins the training that is first in turn."""

from hearth_contracts.finetune import Finetune
from hearth_jobs.finetunes import FinetuneStore, lane_for, waiting
from hearth_jobs.queues import enqueue
from hearth_jobs.queues import waiting as items
from hearth_jobs.store import JobMissing, JobStore


def take_turn(jobs: JobStore, finetunes: FinetuneStore, ticket: str, *, has_a_cluster: bool) -> str | None:
    """The job to begin for `ticket`, the id of the job that was queued with it; None: nothing that can be done here.

    If another that waits comes first, of those that can be done here, that one is begun, and the ticket queued again
    for its own job. What does not wait (another attempt at a job that has begun, a merge) is its own turn.
    """
    own = _finetune_of(jobs, finetunes, ticket)
    if own is None:
        return ticket
    if own.resources.need_a_cluster and not has_a_cluster:  # an older management queued it here, and may once more
        if ticket not in items(jobs.redis, lane_for(own)):
            enqueue(jobs.redis, lane_for(own), ticket)
        return None
    queue = [job.id for job, each in waiting(jobs, finetunes) if has_a_cluster or not each.resources.need_a_cluster]
    if ticket not in queue or queue[0] == ticket:
        return ticket
    enqueue(jobs.redis, lane_for(own), ticket)
    return queue[0]


def _finetune_of(jobs: JobStore, finetunes: FinetuneStore, job_id: str) -> Finetune | None:
    """The fine-tune that a job is for; None where it is for none, or a record is gone."""
    try:
        return finetunes.get(jobs.subject(job_id))
    except JobMissing:
        return None
