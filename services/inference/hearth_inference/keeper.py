"""What must go on while the node's main thread is busy: leases, the node's report, the guards' heartbeat."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable

from hearth_contracts.deploy import DeploymentState, NodeReport
from hearth_jobs.config import RENEW_SECONDS
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import HeldReplica, ReplicaStore
from hearth_jobs.store import JobStore, StaleAttempt
from redis.exceptions import RedisError

from hearth_inference.guarded import GuardedProcess
from hearth_inference.process import EngineProcess

log = logging.getLogger(__name__)

_PERIOD_SECONDS = RENEW_SECONDS / 2
_MAIN_HUNG_SECONDS = 600.0  # longer than all that it waits for with a limit


class Keeper:
    """Keeps jobs, engines and the report alive until told otherwise.

    Two threads, so that a Redis that hangs does not starve the guards and with them the engines.
    """

    def __init__(self, jobs: JobStore, nodes: NodeRegistry, replicas: ReplicaStore, replica: HeldReplica) -> None:
        self.replica = replica
        self._replicas = replicas
        self._has_replica = True
        self._jobs = jobs
        self._nodes = nodes
        self._held: dict[str, int] = {}
        self._interrupted: set[str] = set()
        self._guarded: list[GuardedProcess] = []
        self._report: NodeReport | None = None
        self._serving: EngineProcess | None = None
        self._sent: NodeReport | None = None
        self.main_alive = time.monotonic()
        self._lock = threading.Lock()
        self._report_lock = threading.Lock()  # held while talking to Redis, so never together with the other
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(step,), name=name, daemon=True)
            for name, step in (("leases", self._renew), ("guards", self._feed))
        ]

    def __enter__(self) -> "Keeper":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)

    def has_replica(self, replicas: int) -> bool:
        """Whether this node's replica is one of so many, and still its own."""
        return self._has_replica and self.replica.index < replicas

    def give_replica_back(self) -> None:
        """Another node may take it from now on: nothing of it runs here any more. Raises RedisError."""
        if self._has_replica:
            self._has_replica = False
            with contextlib.suppress(StaleAttempt):
                self._replicas.release(self.replica)

    def hold(self, job_id: str, attempt: int) -> None:
        """Renew this job's lease from now on."""
        with self._lock:
            self._held[job_id] = attempt

    def let_go(self, job_id: str) -> int | None:
        """Renew it no more. Returns the attempt, or None when it was not held any more."""
        with self._lock:
            self._interrupted.discard(job_id)
            return self._held.pop(job_id, None)

    def held(self) -> dict[str, int]:
        """The attempts that are held, by job."""
        with self._lock:
            return dict(self._held)

    def interrupted(self) -> set[str]:
        """The jobs held that somebody asked to end."""
        with self._lock:
            return self._interrupted & self._held.keys()

    def watch(self, process: GuardedProcess) -> None:
        """Feed its guard from now on."""
        with self._lock:
            self._guarded.append(process)

    def forget(self, process: GuardedProcess) -> None:
        """Feed it no more."""
        with self._lock:
            self._guarded.remove(process)

    def report(self, report: NodeReport, serving: EngineProcess | None) -> None:
        """Say this of the node, at once and from now on, and what the engine that serves has to do.

        READY only as long as that engine answers. Raises RedisError.
        """
        with self._report_lock:
            self._report, self._serving = report, serving
            if self._true_report() != self._sent:
                self._send()

    def _true_report(self) -> NodeReport | None:
        if self._report is None or self._report.state is not DeploymentState.READY:
            return self._report
        if self._serving is not None and self._serving.answers():
            return self._report
        return self._report.silenced("the engine does not answer; it is replaced if that goes on")

    def _send(self) -> None:
        report = self._true_report()
        if report is not None:
            self._nodes.report(report, self._serving.health.load if self._serving is not None else None)
        self._sent = report

    def withdraw(self) -> None:
        """Say nothing of the node any more. Raises RedisError."""
        with self._report_lock:
            if self._report is not None:
                node_id, self._report, self._sent = self._report.node_id, None, None
                self._nodes.withdraw(node_id)

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self._over.wait(_PERIOD_SECONDS):
            try:
                step()
            except RedisError as error:
                log.warning("leases not renewed, Redis is away; the engine goes on: %s", error)
            except Exception:
                log.exception("the keeper stumbled; it goes on")

    def _feed(self) -> None:
        if time.monotonic() - self.main_alive > _MAIN_HUNG_SECONDS:
            log.error("the node's main thread hangs; the node ends, with its engines, and another takes over")
            os._exit(1)
        with self._lock:
            guarded = list(self._guarded)
        for process in guarded:
            process.feed()

    def _renew(self) -> None:
        if self._has_replica:
            try:
                self._replicas.renew(self.replica)
            except StaleAttempt as stale:
                log.warning("this node was judged dead: %s", stale)
                self._has_replica = False
        for job_id, attempt in self.held().items():
            try:
                interrupted = self._jobs.renew(job_id, attempt)
            except StaleAttempt as stale:
                with self._lock:
                    lost = self._held.get(job_id) == attempt and self._held.pop(job_id)
                if lost:
                    log.warning("lost a lease: %s", stale)
                continue
            if interrupted:
                with self._lock:
                    self._interrupted.add(job_id)
                    guarded = list(self._guarded)
                for process in guarded:
                    process.interrupt(job_id)
        with self._report_lock:  # or a report that was withdrawn meanwhile would come back
            self._send()
