"""What inference nodes say of themselves. A report is a lease: not renewed, it is gone, and so is its route."""

from hearth_contracts.deploy import EngineLoad, NodeReport
from redis import Redis

from hearth_jobs import keys, owners
from hearth_jobs.replies import text

NODE_LEASE_SECONDS = 6.0


def outlives_its_node(report: NodeReport) -> bool:
    """Whether the node that made it is proven dead, though its lease holds; False where it is on another machine.

    Its engine may live on for a moment, until its guard has ended it.
    """
    owner = owners.parse(report.node_id)
    return owner is not None and owners.lives(owner) is False


class NodeRegistry:
    """Node reports in Redis."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def report(self, report: NodeReport, load: EngineLoad | None = None) -> None:
        """Renew the node's lease; wakes the readers when the report says something new.

        The `load` of its engine is no part of it: it changes all the time, and would wake everybody each second.
        """
        body = report.model_dump_json()
        pipe = self.redis.pipeline(transaction=True)
        pipe.set(keys.node(report.node_id), body, px=int(NODE_LEASE_SECONDS * 1000), get=True)
        pipe.sadd(keys.NODES, report.node_id)
        if load is not None:
            pipe.set(keys.load(report.node_id), load.model_dump_json(), px=int(NODE_LEASE_SECONDS * 1000))
        before = pipe.execute()[0]
        if before != body.encode():
            self.redis.publish(keys.WAKE, report.node_id)

    def withdraw(self, node_id: str) -> None:
        """Say that the node serves nothing any more."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.delete(keys.node(node_id), keys.load(node_id))
        pipe.srem(keys.NODES, node_id)
        pipe.publish(keys.WAKE, node_id)
        pipe.execute()

    def live(self) -> list[NodeReport]:
        """The reports whose lease holds, by node id; forgets the names of nodes whose lease has ended."""
        ids = sorted(text(node_id) for node_id in self.redis.smembers(keys.NODES))
        if not ids:
            return []
        found = []
        for node_id, body in zip(ids, self.redis.mget([keys.node(i) for i in ids]), strict=True):
            if body is None:
                self.redis.srem(keys.NODES, node_id)
            else:
                found.append(NodeReport.model_validate_json(body, extra="ignore"))  # a newer node may say more
        return found

    def loads(self, nodes: list[NodeReport]) -> list[EngineLoad]:
        """What the engines of these have to do, of those that say so."""
        if not nodes:
            return []
        bodies = self.redis.mget([keys.load(node.node_id) for node in nodes])
        return [EngineLoad.model_validate_json(body, extra="ignore") for body in bodies if body is not None]
