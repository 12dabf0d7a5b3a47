"""Jobs as Prometheus sees them, computed from their records, so that they are right whoever worked on them.

A job that is over never changes: it is read once and kept as one observation. Of one that waits only the status does,
and is all that is read again. So a scrape reads the jobs that run, what has ended since the scrape before it, and
a word of each that waits; how many there have ever been does not matter.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hearth_contracts.base import now
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs.store import JobStore
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
"""Seconds, from a queue with nobody before to a training of a day."""

CLOCKS_SECONDS = 3600.0
"""By so much the clocks of the machines that create jobs may differ."""


@dataclass
class Times:
    """A histogram that grows."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Add one."""
        place = next((place for place, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))
        self.counts[place] += 1
        self.total += seconds

    def plus(self, others: list[float]) -> "Times":
        """A copy with some more."""
        sum_of = Times(list(self.counts), self.total)
        for seconds in others:
            sum_of.observe(seconds)
        return sum_of

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus writes them: each with all below it."""
        bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
        return [(bound, float(sum(self.counts[: place + 1]))) for place, bound in enumerate(bounds)]


def waited(job: Job) -> float:
    """Seconds between its creation and the beginning of its last attempt."""
    return max(0.0, (job.started_at - job.created_at).total_seconds())


class JobMetrics(Collector):
    """Numbers, waits, run times and retries of jobs, by kind."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._lock = threading.Lock()  # two scrapes at once
        self._newest = 0.0  # when the newest job was created, seconds since 1970
        self._open: set[str] = set()  # what was not over
        self._waiting: dict[str, Job] = {}
        self._over: set[str] = set()
        self._ended: Counter[tuple[JobKind, JobStatus]] = Counter()
        self._waits = {kind: Times() for kind in JobKind}
        self._runs: dict[tuple[JobKind, JobStatus], Times] = {}
        self._retries: Counter[JobKind] = Counter()

    def collect(self) -> Iterator[Metric]:
        """Look. Raises redis.RedisError."""
        with self._lock:
            active = self._read()
            yield self._numbers(active)
            yield self._queue_waits(active)
            yield self._run_times()
            yield self._all_retries(active)
            yield _oldest(active)

    def _read(self) -> list[Job]:
        """The jobs that are not over; keeps those that have ended."""
        new = self.store.since(self._newest - CLOCKS_SECONDS)
        self._newest = max(new.values(), default=self._newest)
        ids = (self._open | new.keys()) - self._over
        still = self.store.waiting(self._waiting.keys() & ids)
        active = [self._waiting[job_id] for job_id in still]
        for job in self.store.many(sorted(ids - still)):
            if job.status.is_over:
                self._keep(job)
            else:
                active.append(job)
        self._waiting = {job.id: job for job in active if job.status is JobStatus.CREATED}
        self._open = {job.id for job in active}
        return active

    def _keep(self, job: Job) -> None:
        self._over.add(job.id)
        self._ended[job.kind, job.status] += 1
        self._retries[job.kind] += max(0, job.attempt - 1)
        if job.attempt and job.finished_at is not None:
            self._waits[job.kind].observe(waited(job))
            times = self._runs.setdefault((job.kind, job.status), Times())
            times.observe((job.finished_at - job.started_at).total_seconds())

    def _numbers(self, active: list[Job]) -> Metric:
        family = GaugeMetricFamily("hearth_jobs", "Jobs that are recorded", labels=["kind", "status"])
        found = self._ended + Counter((job.kind, job.status) for job in active)
        for kind in JobKind:
            for status in JobStatus:
                family.add_metric([kind, status], found[kind, status])
        return family

    def _queue_waits(self, active: list[Job]) -> Metric:
        words = "From a job's creation to the beginning of its last attempt"
        family = HistogramMetricFamily("hearth_job_queue_wait_seconds", words, labels=["kind"])
        for kind, times in self._waits.items():
            running = [waited(job) for job in active if job.kind is kind and job.attempt]
            whole = times.plus(running)
            family.add_metric([kind], whole.buckets(), whole.total)
        return family

    def _run_times(self) -> Metric:
        words = "From the beginning of a job's last attempt to its end"
        family = HistogramMetricFamily("hearth_job_run_seconds", words, labels=["kind", "status"])
        for (kind, status), times in self._runs.items():
            family.add_metric([kind, status], times.buckets(), times.total)
        return family

    def _all_retries(self, active: list[Job]) -> Metric:
        family = CounterMetricFamily("hearth_job_retries", "Attempts beyond a job's first", labels=["kind"])
        for kind in JobKind:
            running = sum(max(0, job.attempt - 1) for job in active if job.kind is kind)
            family.add_metric([kind], self._retries[kind] + running)
        return family


def _oldest(active: list[Job]) -> Metric:
    words = "Age of the oldest job in this state; 0 when there is none"
    family = GaugeMetricFamily("hearth_job_oldest_age_seconds", words, labels=["kind", "status"])
    moment = now()
    for kind in JobKind:
        for status, since in ((JobStatus.CREATED, "created_at"), (JobStatus.RUNNING, "started_at")):
            ages = [
                (moment - getattr(job, since)).total_seconds()
                for job in active
                if job.kind is kind and job.status is status
            ]
            family.add_metric([kind, status], max(ages, default=0.0))
    return family
