"""`/metrics`: what the process counted, and what its collectors find when they are asked."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fastapi import APIRouter
from fastapi.responses import Response
from hearth_telemetry.metrics import CONTENT_TYPE, exposition
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hearth_web.health import Check, answers

log = logging.getLogger(__name__)


class Dependencies(Collector):
    """Whether what the service needs answers, as its readiness says."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self.checks = checks

    def collect(self) -> Iterator[Metric]:
        """Ask each."""
        family = GaugeMetricFamily("hearth_dependency_up", "Whether it answers (1) or not (0)", labels=["dependency"])
        for name, check in self.checks.items():
            family.add_metric([name], float(answers(name, check)))
        yield family


class Careful(Collector):
    """A collector that, where what it looks at is away, has nothing to say: the others still do."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def collect(self) -> Iterable[Metric]:
        """What the collector finds, whole or not at all."""
        try:
            return list(self.collector.collect())
        except Exception as error:  # each client has exceptions of its own
            log.warning("%s found nothing: %s", type(self.collector).__name__, error)
            return []


def metrics_routes(checks: Mapping[str, Check], collectors: Sequence[Collector]) -> APIRouter:
    """The route. Its metrics are of one app, so that tests may build several."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in (Dependencies(checks), *collectors):
        registry.register(Careful(collector))
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(registry), media_type=CONTENT_TYPE)

    return router
