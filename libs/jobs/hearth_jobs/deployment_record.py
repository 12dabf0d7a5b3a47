"""What is recorded of a deployment: what is desired, what was last known to serve, and what went wrong last."""

from dataclasses import dataclass
from typing import Any

from hearth_contracts.base import Frozen
from hearth_contracts.deploy import DeploymentSpec
from redis.client import Pipeline

from hearth_jobs import keys
from hearth_jobs.replies import fields_of


class ByLoad(Frozen):
    """The number of engines that the load has come to, and what led there."""

    replicas: int
    reason: str
    full_at: float  # what an engine had at work when so much waited for so long that there had to be more engines


@dataclass(frozen=True)
class Deployment:
    """All that is recorded of one deployment."""

    name: str
    desired: DeploymentSpec | None  # what is to be served
    serving: DeploymentSpec | None  # the last version that answered a warm-up request: what to go back to
    latest: DeploymentSpec | None  # the last version asked for, whatever became of it
    failure: str  # why the last version asked for was given up, or ''
    replicas: int  # how many engines are to serve at least, whatever version
    max_replicas: int  # how many its load may make them; 0: it makes no more
    by_load: ByLoad | None  # how many it made them last
    idle_after: int  # seconds without a request after which none is to run; 0: never
    is_asleep: bool  # that is so, and none has come since

    @property
    def desired_replicas(self) -> int:
        """How many engines are to serve now, if any are."""
        most = max(self.replicas, self.max_replicas)
        return min(max(self.replicas, self.by_load.replicas), most) if self.by_load else self.replicas


def read_record(name: str, reply: Any) -> Deployment | None:
    """The record out of its hash, as Redis gave it; None when that is empty."""
    record = fields_of(reply)
    if not record:
        return None

    def spec(field: str) -> DeploymentSpec | None:
        return DeploymentSpec.model_validate_json(record[field]) if record.get(field) else None

    return Deployment(
        name,
        spec("desired"),
        spec("serving"),
        spec("latest"),
        record.get("failure", ""),
        replicas=int(record.get("replicas", "1")),
        max_replicas=int(record.get("max_replicas", "0")),
        by_load=ByLoad.model_validate_json(record["by_load"]) if record.get("by_load") else None,
        idle_after=int(record.get("idle_after", "0")),
        is_asleep="asleep" in record,
    )


def put_settings(
    pipe: Pipeline, name: str, replicas: int | None, max_replicas: int | None, idle_after: int | None
) -> None:
    """Set those that are given."""
    if max_replicas == 0:
        pipe.hdel(keys.deployment(name), "by_load")
    for field, value in (("replicas", replicas), ("max_replicas", max_replicas), ("idle_after", idle_after)):
        if value is not None:
            pipe.hset(keys.deployment(name), field, value)
