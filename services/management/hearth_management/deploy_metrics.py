"""Deployments, nodes, workers and queues as Prometheus sees them, from what is recorded; and where the engines are."""

from collections import Counter
from collections.abc import Iterator

from hearth_contracts.deploy import DeploymentState, NodeReport
from hearth_jobs import tallies
from hearth_jobs.nodes import outlives_its_node
from hearth_jobs.tallies import Tally
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from redis import Redis

from hearth_management import lanes
from hearth_management.services import Services


class DeployMetrics(Collector):
    """What is desired, what answers, and what that took."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def collect(self) -> Iterator[Metric]:
        """Look. Raises redis.RedisError."""
        yield from _replicas(self.services)
        yield from _tallies(self.services.redis)
        yield from _lanes(self.services)


def _replicas(services: Services) -> Iterator[Metric]:
    desired = GaugeMetricFamily(
        "hearth_deployment_desired_replicas", "Engines that are to serve", labels=["deployment"]
    )
    ready = GaugeMetricFamily("hearth_deployment_ready_replicas", "Engines that answer requests", labels=["deployment"])
    adapters = GaugeMetricFamily("hearth_deployment_adapters", "Adapters that are to be served", labels=["deployment"])
    ready_nodes = (
        node for node in services.nodes.live() if node.state is DeploymentState.READY and not outlives_its_node(node)
    )
    answering = Counter(node.deployment for node in ready_nodes)
    for record in services.deployments.all():
        wanted = record.desired
        desired.add_metric([record.name], 0 if wanted is None or record.is_asleep else record.desired_replicas)
        adapters.add_metric([record.name], 0 if wanted is None else len(wanted.adapter_ids))
        ready.add_metric([record.name], answering[record.name])
    yield from (desired, ready, adapters)


def _tallies(redis: Redis) -> Iterator[Metric]:
    counted = tallies.read(redis)
    restarts = CounterMetricFamily(
        "hearth_deployment_restarts", "Engines started again after they died", labels=["deployment"]
    )
    swaps = CounterMetricFamily(
        "hearth_deployment_adapter_swaps", "Changes of adapters in a running engine", labels=["deployment"]
    )
    loads = SummaryMetricFamily(
        "hearth_deployment_load_seconds", "From an engine's start to its first answer", labels=["deployment"]
    )
    removals = CounterMetricFamily(
        "hearth_deployment_models_removed",
        "Models that nodes had fetched and removed, for its model to have room",
        labels=["deployment"],
    )
    for name in sorted({deployment for _, deployment in counted}):
        restarts.add_metric([name], counted.get((Tally.RESTARTS, name), 0))
        swaps.add_metric([name], counted.get((Tally.SWAPS, name), 0))
        removals.add_metric([name], counted.get((Tally.REMOVALS, name), 0))
        number, seconds = counted.get((Tally.LOADS, name), 0), counted.get((Tally.LOAD_SECONDS, name), 0)
        loads.add_metric([name], int(number), seconds)
    yield from (restarts, swaps, removals, loads)


def _lanes(services: Services) -> Iterator[Metric]:
    items = GaugeMetricFamily("hearth_queue_items", "Items that wait for a worker", labels=["queue"])
    workers = GaugeMetricFamily("hearth_workers", "Workers that take items", labels=["queue"])
    for each in lanes.look(services):
        items.add_metric([each.queue], each.waiting)
        workers.add_metric([each.queue], each.workers)
    yield from (items, workers)


def scrape_targets(nodes: list[NodeReport]) -> list[dict[str, object]]:
    """The engines that run, as Prometheus's HTTP service discovery reads them; their ports change."""
    return [
        {
            "targets": [node.url.partition("://")[2]],
            "labels": {"deployment": node.deployment, "runtime": node.engine.value},
        }
        for node in nodes
        if node.url
    ]
