"""The DEPLOY jobs that a node holds: claimed, kept, and ended in the one way that is true of each.

Of a deployment's nodes one holds the job of a version: it decides whether the version is good. When it is gone, another
of them claims the job.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hearth_contracts.deploy import DeploymentSpec, DeploymentState, NodeReport
from hearth_contracts.jobs import JobStatus
from hearth_jobs.deployment_record import Deployment
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.store import ClaimRefused, JobMissing, JobStore, StaleAttempt
from hearth_jobs.traced import AttemptSpan, begin
from hearth_storage.config import HomeSettings

from hearth_inference.keeper import Keeper

log = logging.getLogger(__name__)

STOPPED = "waiting for an inference node: its worker was stopped"
ASLEEP = "waiting for a request: none came for long, so no engine runs"


@dataclass
class Holdings:
    """The jobs of one deployment, as far as this node holds them. Every method raises RedisError when Redis is away."""

    name: str
    home: HomeSettings
    deployments: DeploymentStore
    jobs: JobStore
    keeper: Keeper
    node_id: str
    others: Callable[[], list[NodeReport]]  # what the deployment's other nodes say of themselves
    served: set[str] = field(default_factory=set)  # jobs whose version has answered requests
    spans: dict[str, AttemptSpan] = field(default_factory=dict)  # until they serve: a trace is to be seen then

    def heed_interrupts(self, record: Deployment | None) -> Deployment | None:
        """A DEPLOY job that was interrupted, by whatever way, takes its version off what is desired."""
        if record is None or record.desired is None or record.desired.job_id not in self.keeper.interrupted():
            return record
        if record.serving is None or record.serving.generation == record.desired.generation:
            self.deployments.undeploy(self.name)
        else:
            self.deployments.give_up(record.desired, "interrupted")
        return self.deployments.get(self.name)

    def claim(self, desired: DeploymentSpec, *, runs: bool = False) -> bool:
        """See that a node carries this version, this one if no other does; it may run here already.

        False when the version is given up, since its job is over.
        """
        try:
            attempt = self.jobs.claim(desired.job_id, self.node_id, runs=runs)
            self.keeper.hold(desired.job_id, attempt)
            if not runs:
                self.spans[desired.job_id] = begin(self.jobs.origin(desired.job_id), desired.job_id, attempt)
            return True
        except JobMissing:
            self.deployments.give_up(desired, "its job is not there any more; deploy again")
            return False
        except ClaimRefused:
            status = self.jobs.get(desired.job_id).status
            if status.is_over:
                self.deployments.give_up(desired, f"its job is {status}; deploy again")
            return not status.is_over

    def hold_serving(self, record: Deployment) -> None:
        """Keep the job of the version that serves, or served before a restart: it is not over until replaced."""
        if record.serving is None:
            return
        self.served.add(record.serving.job_id)
        if record.serving.job_id not in self.keeper.held():
            with contextlib.suppress(ClaimRefused, JobMissing):  # over, or its dead holder's lease has not ended yet
                self.keeper.hold(record.serving.job_id, self.jobs.claim(record.serving.job_id, self.node_id))

    def end_orphans(self, record: Deployment | None, running: Iterable[DeploymentSpec]) -> None:
        """End the jobs whose version is neither desired nor served: FINISHED if it ever served, else KILLED.

        What other nodes still stop is given back instead: the judge ends it when they have.
        """
        specs = [record.desired, record.serving] if record and record.desired else []
        wanted = {spec.job_id for spec in (*specs, *running) if spec is not None}
        for job_id in self.keeper.held().keys() - wanted:
            if job_id in self.served and specs:
                self.finish(job_id, JobStatus.FINISHED)
            elif any(job_id in node.runs for node in self.others()):
                self.release(job_id, "stopping: other nodes still stop its engines")
            else:
                self.finish(job_id, JobStatus.KILLED)

    def finish(self, job_id: str, status: JobStatus, words: str | None = None) -> None:
        """End a job, if it is held."""
        attempt = self.keeper.held().get(job_id)
        if attempt is None:
            return
        try:
            self.jobs.finish(job_id, attempt, status, words)
        except StaleAttempt as stale:
            log.warning("job %s was not ended here: %s", job_id, stale)
        self.keeper.let_go(job_id)
        self._end_span(job_id, status)
        self.note(job_id, f"{status}: {words}" if words else str(status))

    def serves(self, job_id: str) -> None:
        """Its version answers requests from now on."""
        self.served.add(job_id)
        self._end_span(job_id, JobStatus.RUNNING)

    def _end_span(self, job_id: str, status: JobStatus | None) -> None:
        if span := self.spans.pop(job_id, None):
            span.outcome(status)
            span.end()

    def stage(self, spec: DeploymentSpec, stage: str, progress: float) -> None:
        """Say what is being done for a version."""
        self.note(spec.job_id, stage)
        if span := self.spans.get(spec.job_id):
            span.event("stage", {"stage": stage.partition(":")[0]})  # behind it are an engine's words
        attempt = self.keeper.held().get(spec.job_id)
        if attempt is not None:
            try:
                self.jobs.report(spec.job_id, attempt, stage=stage, progress=progress)
            except StaleAttempt:
                self.keeper.let_go(spec.job_id)

    def steady(self, spec: DeploymentSpec) -> None:
        """It has served well for long: earlier deaths of its nodes count no more."""
        attempt = self.keeper.held().get(spec.job_id)
        if attempt is not None:
            with contextlib.suppress(StaleAttempt):
                self.jobs.steady(spec.job_id, attempt)

    def note(self, job_id: str, line: str) -> None:
        """Add a line to a job's log."""
        log.info("%s: job %s: %s", self.name, job_id, line)
        path = self.home.job_log(job_id)
        with contextlib.suppress(OSError):  # the disk may be full, and what serves goes on
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as out:
                out.write(line + "\n")

    def release_all(self, stage: str = STOPPED) -> None:
        """Give all jobs back, so that another node may take them up at once."""
        for job_id in self.keeper.held():
            self.release(job_id, stage)

    def release(self, job_id: str, stage: str) -> None:
        """Give one back."""
        attempt = self.keeper.let_go(job_id)
        if attempt is not None:
            with contextlib.suppress(StaleAttempt):
                self.jobs.release(job_id, attempt, stage)
        self._end_span(job_id, None)

    def is_left_to_others(self, spec: DeploymentSpec, lacks: str) -> bool:
        """Whether this node, which could not get the model that it `lacks`, leaves the version to another that may."""
        return lacks == spec.model_id and any(node.lacks != lacks for node in self.others())

    def answers_elsewhere(self, spec: DeploymentSpec) -> bool:
        """Whether another node serves this version."""
        return any(node.state is DeploymentState.READY and node.generation == spec.generation for node in self.others())
