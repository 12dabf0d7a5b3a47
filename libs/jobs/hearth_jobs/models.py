"""What management's model store has of each model that is deployed: what a node that lacks it is to fetch."""

from hearth_contracts.models import StoredModel
from redis import Redis

from hearth_jobs import keys


def put_model(redis: Redis, model: StoredModel) -> None:
    """Record a model, in place of another revision of it. Also with a pipe."""
    redis.hset(keys.MODELS, model.model_id, model.model_dump_json())


def model_of(redis: Redis, model_id: str) -> StoredModel | None:
    """The model, or None where it was never deployed."""
    body = redis.hget(keys.MODELS, model_id)
    return None if body is None else StoredModel.model_validate_json(body, extra="ignore")


def forget_model(redis: Redis, model_id: str) -> None:
    """It is not there any more."""
    redis.hdel(keys.MODELS, model_id)
