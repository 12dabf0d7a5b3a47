"""The trainings at work as Prometheus sees them: where the curve of each has come to.

The only metrics with an id for a label. There are never more of them than training workers, and a training that is over
has none: how it went is in its own curve.
"""

from collections.abc import Iterator

from hearth_contracts.finetune import Metric
from hearth_contracts.jobs import JobKind
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.store import JobStore
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

GAUGES = {
    "loss": ("hearth_training_loss", "Loss of the latest step"),
    "eval_loss": ("hearth_training_eval_loss", "Loss on the validation rows, when it was last measured"),
    "learning_rate": ("hearth_training_learning_rate", "Learning rate of the latest step"),
    "tokens_per_second": ("hearth_training_tokens_per_second", "Tokens a second, over this attempt"),
    "eta_seconds": ("hearth_training_eta_seconds", "Seconds until it is done, at this pace"),
}
"""Name and help by the field of a curve's point."""


class TrainingMetrics(Collector):
    """The latest step of each training at work."""

    def __init__(self, jobs: JobStore, finetunes: FinetuneStore) -> None:
        self.jobs = jobs
        self.finetunes = finetunes

    def collect(self) -> Iterator[Family]:
        """Look. Raises redis.RedisError."""
        latest = dict(self._latest())
        for field, (name, words) in GAUGES.items():
            family = GaugeMetricFamily(name, words, labels=["finetune"])
            for finetune_id, point in latest.items():
                if (value := getattr(point, field)) is not None:
                    family.add_metric([finetune_id], value)
            yield family

    def _latest(self) -> Iterator[tuple[str, Metric]]:
        for held in self.jobs.open(apart_from=self.jobs.unheld()):
            if held.job.kind is JobKind.FINETUNE and (point := self.finetunes.latest_point(held.subject)) is not None:
                yield held.subject, point
