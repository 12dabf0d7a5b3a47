"""One job for one `Idempotency-Key`, however often the request comes, and in however many copies at once.

    services.idempotency.once(key, "POST /v1/x", body, lambda record: begin(services, request, record))

`begin` makes the job in a transaction of its own and calls `record(pipe, job)` in it: the job and the memory of its key
exist together or not at all. Copies that come meanwhile wait for it.
"""

import hashlib
from collections.abc import Callable

from hearth_contracts.base import Frozen
from hearth_contracts.errors import Conflict, Invalid
from hearth_contracts.jobs import Job
from hearth_contracts.names import RecordId
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import LockError

from hearth_jobs import keys
from hearth_jobs.store import JobStore

KEPT_SECONDS = 24 * 3600
"""How long a key is remembered: an exception to the rule that nothing in Redis expires."""

_HELD_SECONDS = 60.0  # longer than any request that begins a job takes
_PATIENCE_SECONDS = 20.0

Recorder = Callable[[Pipeline, Job], None]
"""Remembers, as part of the transaction that makes a job, which request it answers."""


def no_record(_pipe: Pipeline, _job: Job) -> None:
    """The recorder of a request without a key."""


class _Answered(Frozen):
    """What is remembered of a key."""

    request: str  # the digest of what was asked
    job_id: RecordId


class Idempotency:
    """The keys in Redis."""

    def __init__(self, redis: Redis, jobs: JobStore) -> None:
        self.redis = redis
        self.jobs = jobs

    def once(self, key: str | None, route: str, body: str, begin: Callable[[Recorder], Job]) -> Job:
        """The job that `begin` makes, or the one it made for this key before.

        Raises Invalid when the key came with another request, Conflict when its first copy is not answered yet, and
        what `begin` raises; a refused request leaves its key free.
        """
        if key is None:
            return begin(no_record)
        name = keys.idempotency(_digest(key))
        request = _digest(f"{route}\n{body}")

        def record(pipe: Pipeline, job: Job) -> None:
            pipe.set(name, _Answered(request=request, job_id=job.id).model_dump_json(), ex=KEPT_SECONDS)

        try:
            with self.redis.lock(f"{name}:lock", timeout=_HELD_SECONDS, blocking_timeout=_PATIENCE_SECONDS):
                found = self.redis.get(name)
                return begin(record) if found is None else self._again(_Answered.model_validate_json(found), request)
        except LockError:
            raise Conflict("a request with this Idempotency-Key is being worked on; ask again", retry_after=2) from None

    def _again(self, answered: _Answered, request: str) -> Job:
        if answered.request != request:
            raise Invalid(
                f"this Idempotency-Key came with another request, which began job {answered.job_id}; "
                "use a new key for a new request"
            )
        return self.jobs.get(answered.job_id)


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()
