"""Fine-tune records in Redis."""

from hearth_contracts.finetune import Finetune
from redis import Redis
from redis.client import Pipeline

from hearth_jobs import keys
from hearth_jobs.replies import text


class FinetuneStore:
    """What was asked to be trained; how it goes is told by its job."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

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
