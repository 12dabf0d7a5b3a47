"""Who takes a replica: whichever worker is free, but rather one that has the model.

There is no placement beyond that. An item of the queue carries the names of the workers that left it to others, so that
it goes round once at most.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from hearth_jobs.alive import waiting_workers
from hearth_jobs.queues import Lane, enqueue
from redis import Redis

log = logging.getLogger(__name__)

HOLDS = "models"
"""The word under which workers say which models they have, with spaces between."""


@dataclass(frozen=True)
class Turn:
    """One worker's turn at an item. Every method raises RedisError when Redis is away."""

    redis: Redis
    lane: Lane
    deployment: str
    worker: str  # its name
    passed_by: Sequence[str]  # those that passed the item on, since they have not got the model
    failed_on: Sequence[str]  # those that could not get it

    def passes_on(self, model_id: str) -> bool:
        """Whether this worker, which has not got the model, has left the item to another that has it.

        One that could not get it leaves it to any that has not tried.
        """
        if self.worker in self.passed_by:
            return False
        tried = self.worker in self.failed_on
        if not any(tried or model_id in holds for holds in self._others(*self.passed_by).values()):
            return False
        log.info("%s: a free worker is to take it, %s is not here", self.deployment, model_id)
        enqueue(self.redis, self.lane, self.deployment, more=([*self.passed_by, self.worker], self.failed_on))
        return True

    def may_leave(self) -> bool:
        """Whether a free worker might get the model, which this one could not get."""
        return self.worker not in self.failed_on and bool(self._others())

    def leave(self) -> None:
        """Have such a one take the replica. Nobody may hold it any more."""
        enqueue(self.redis, self.lane, self.deployment, more=([], [*self.failed_on, self.worker]))

    def _others(self, *but: str) -> dict[str, frozenset[str]]:
        known = {self.worker, *self.failed_on, *but}
        free = waiting_workers(self.redis, self.lane.queue, HOLDS)
        return {name: frozenset(holds.split()) for name, holds in free.items() if name not in known}
