"""Fine-tune records in Redis, and what their workers tell of them: the curve, the last checkpoint, the result."""

from collections.abc import Callable, Iterable

from hearth_contracts.finetune import Finetune, FinetuneResult, Metric
from hearth_contracts.jobs import Job, JobKind, JobStatus
from redis import Redis
from redis.client import Pipeline

from hearth_jobs import keys
from hearth_jobs.queues import TRAINING, TRAINING_ON_A_CLUSTER, Lane
from hearth_jobs.replies import fields_of, text
from hearth_jobs.store import JobStore

POINTS_KEPT = 2000
"""About how many points of a curve stay in Redis: half a megabyte."""


class FinetuneStore:
    """What was asked to be trained, and how it went; whether it goes on is told by its job."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    # -- records ---------------------------------------------------------------------------------------------

    def put(self, pipe: Pipeline, finetune: Finetune) -> None:
        """Record as part of the transaction `pipe`."""
        pipe.set(keys.finetune(finetune.id), finetune.model_dump_json())
        pipe.zadd(keys.FINETUNES, {finetune.id: finetune.created_at.timestamp()})

    def get(self, finetune_id: str) -> Finetune | None:
        """The record, or None."""
        body = self.redis.get(keys.finetune(finetune_id))
        return None if body is None else Finetune.model_validate_json(body)

    def latest(self) -> Finetune | None:
        """The newest record, or None."""
        ids = self.redis.zrevrange(keys.FINETUNES, 0, 0)
        return self.get(text(ids[0])) if ids else None

    def all(self) -> list[Finetune]:
        """Every record, newest first."""
        ids = [text(i) for i in self.redis.zrevrange(keys.FINETUNES, 0, -1)]
        bodies = self.redis.mget([keys.finetune(i) for i in ids]) if ids else []
        return [Finetune.model_validate_json(body) for body in bodies if body is not None]

    def change(self, finetune_id: str, change: Callable[[Pipeline, Finetune], None]) -> None:
        """Call `change` with the record and a transaction to write to, again if somebody else changed it meanwhile.

        Raises KeyError when there is no such fine-tune, and what `change` raises, with nothing written.
        """

        def attempt(pipe: Pipeline) -> None:
            record = self.get(finetune_id)
            if record is None:
                raise KeyError(finetune_id)
            pipe.multi()
            change(pipe, record)

        self.redis.transaction(attempt, keys.finetune(finetune_id))

    # -- what the worker tells -------------------------------------------------------------------------------

    def add_point(self, finetune_id: str, point: Metric, before: Metric | None) -> None:
        """Record a step of the curve, in place of what was there for it. `before` is the point recorded last.

        That one goes if a long run would otherwise have more points than are kept.
        """
        key = keys.finetune_metrics(finetune_id)
        pipe = self.redis.pipeline(transaction=True)
        pipe.zremrangebyscore(key, point.step, point.step)
        pipe.zadd(key, {point.model_dump_json(): point.step})
        if before is not None and before.step != point.step and not _stays(before):
            pipe.zremrangebyscore(key, before.step, before.step)
        pipe.execute()

    def void_points_after(self, finetune_id: str, step: int) -> None:
        """Forget the curve behind `step`: the run went back to it."""
        self.redis.zremrangebyscore(keys.finetune_metrics(finetune_id), f"({step}", "+inf")

    def points(self, finetune_id: str, after: int = 0) -> list[Metric]:
        """The curve behind step `after`, in order."""
        found = self.redis.zrangebyscore(keys.finetune_metrics(finetune_id), f"({after}", "+inf")
        return [Metric.model_validate_json(text(body)) for body in found]

    def latest_point(self, finetune_id: str) -> Metric | None:
        """Where the curve has come to."""
        found = self.redis.zrange(keys.finetune_metrics(finetune_id), -1, -1)
        return Metric.model_validate_json(text(found[0])) if found else None

    def set_checkpoint(self, finetune_id: str, step: int) -> None:
        """Note the newest checkpoint that lies in S3."""
        self.redis.hset(keys.finetune_run(finetune_id), "checkpoint_step", str(step))

    def set_result(self, finetune_id: str, result: FinetuneResult) -> None:
        """Note how it came out; its checkpoints are of no use any more."""
        key = keys.finetune_run(finetune_id)
        pipe = self.redis.pipeline(transaction=True)
        pipe.hset(key, "result", result.model_dump_json())
        pipe.hdel(key, "checkpoint_step")
        pipe.execute()

    def facts(self, finetune_id: str) -> tuple[int | None, FinetuneResult | None]:
        """The newest checkpoint's step and the result, each None where there is none."""
        found = fields_of(self.redis.hgetall(keys.finetune_run(finetune_id)))
        step, result = found.get("checkpoint_step"), found.get("result")
        return int(step) if step else None, FinetuneResult.model_validate_json(result) if result else None

    # -- adapters to be deployed as soon as they are trained -------------------------------------------------

    def await_deployment(self, pipe: Pipeline, finetune_id: str) -> None:
        """Note, as part of the transaction `pipe`, that the adapter is to be deployed once it is trained."""
        pipe.hset(keys.FINETUNES_TO_DEPLOY, finetune_id, "")

    def awaiting_deployment(self) -> dict[str, str]:
        """The fine-tunes that wait for it, each with the job that deploys it, or '' where none does yet."""
        return fields_of(self.redis.hgetall(keys.FINETUNES_TO_DEPLOY))

    def awaits_deployment(self, finetune_id: str) -> bool:
        """Whether this one does."""
        return bool(self.redis.hexists(keys.FINETUNES_TO_DEPLOY, finetune_id))

    def deployment_begun(self, finetune_id: str, job_id: str) -> None:
        """Note the job that deploys it."""
        self.redis.hset(keys.FINETUNES_TO_DEPLOY, finetune_id, job_id)

    def deployment_over(self, finetune_id: str, words: str) -> None:
        """It waits no more; `words` say how it came out."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.hset(keys.finetune_run(finetune_id), "deployment", words)
        pipe.hdel(keys.FINETUNES_TO_DEPLOY, finetune_id)
        pipe.execute()

    def deployment_words(self, finetune_id: str) -> str:
        """How its deployment came out; '' while it has not."""
        return fields_of(self.redis.hgetall(keys.finetune_run(finetune_id))).get("deployment", "")


def lane_for(finetune: Finetune) -> Lane:
    """Where a run waits: with those workers that can do it."""
    return TRAINING_ON_A_CLUSTER if finetune.resources.need_a_cluster else TRAINING


def _stays(point: Metric) -> bool:
    """Whether a point is one of those that a long curve is thinned to."""
    return point.eval_loss is not None or point.step % max(1, -(-point.max_steps // POINTS_KEPT)) == 0


def in_turn(jobs: Iterable[tuple[Job, Finetune]]) -> list[tuple[Job, Finetune]]:
    """Trainings in the order in which they begin: the highest priority first, then the one asked for first."""
    return sorted(jobs, key=lambda pair: (-pair[1].priority, pair[0].created_at))


def waiting(jobs: JobStore, finetunes: FinetuneStore) -> list[tuple[Job, Finetune]]:
    """The trainings that no worker has begun, in turn."""
    created = [j for j in jobs.active() if j.kind is JobKind.FINETUNE and j.status is JobStatus.CREATED]
    pairs = [(job, finetunes.get(jobs.subject(job.id))) for job in created]
    return in_turn((job, finetune) for job, finetune in pairs if finetune is not None)
