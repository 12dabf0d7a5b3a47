"""What was begun and can be waited for: a job, a fine-tune, a deployment."""

from collections.abc import Iterator

from hearth_contracts.deploy import DeploymentState, DeployStatus, NamedDeployment
from hearth_contracts.finetune import FinetuneMetrics, FinetuneStatus, Metric
from hearth_contracts.jobs import Job, JobStatus

from hearth_client import asks
from hearth_client.binding import Async, Sync, following, operation
from hearth_client.errors import JobFailed, NotFound, Superseded
from hearth_client.progress import Shown, of_job, telling
from hearth_client.request import Follow, Pause, Request, Steps, ask
from hearth_client.sender import LONG_PATIENCE, AsyncSender, Sender

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0


def pauses() -> Iterator[Pause]:
    """Between looks at something that goes on: soon at first, then every two seconds."""
    seconds = FIRST_PAUSE_SECONDS
    while True:
        yield Pause(seconds)
        seconds = min(seconds * 1.5, LONGEST_PAUSE_SECONDS)


def await_job(job_id: str, progress: Shown) -> Steps[Job]:
    """The job once it is FINISHED; it outlives a platform that is away for minutes. Raises JobFailed."""
    with telling(progress) as tell:
        for pause in pauses():
            job = yield from ask(asks.job(job_id).outlasting(LONG_PATIENCE))
            tell(of_job(job))
            if job.status is JobStatus.FINISHED:
                return job
            if job.status.is_over:
                raise JobFailed(job)
            yield pause
    raise AssertionError("the pauses have no end")


class JobCalls:
    """What can be done with a job. `job` is what was known of it last."""

    def __init__(self, job: Job) -> None:
        self.job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @operation
    def refresh(self) -> Request[Job]:
        """Look again."""
        return asks.job(self.id).map(self._now)

    @operation
    def wait(self, progress: Shown = False) -> Steps[Job]:
        """Until it is FINISHED, through broken connections. Raises JobFailed, NotReached after ten minutes."""
        return self._now((yield from await_job(self.id, progress)))

    @operation
    def interrupt(self) -> Request[Job]:
        """Stop it. It is KILLED once no process of it is left: `refresh` tells."""
        return asks.interrupt(self.id).map(self._now)

    @operation
    def logs(self) -> Request[str]:
        """The end of its log."""
        return asks.logs(self.id)

    @following
    def follow(self) -> Follow[str]:
        """The lines of its log as they come, until it is over."""
        return asks.log_lines(self.id)

    def _now(self, job: Job) -> Job:
        self.job = job
        return job


class JobHandle(JobCalls, Sync):
    """A job that was begun."""

    def __init__(self, sender: Sender, job: Job) -> None:
        JobCalls.__init__(self, job)
        Sync.__init__(self, sender)


class AsyncJobHandle(JobCalls, Async):
    """The same, awaited."""

    def __init__(self, sender: AsyncSender, job: Job) -> None:
        JobCalls.__init__(self, job)
        Async.__init__(self, sender)


class RunCalls:
    """What can be done with a fine-tune. `record` is what was known of it last."""

    def __init__(self, record: FinetuneStatus) -> None:
        self.record = record

    @property
    def id(self) -> str:
        """The fine-tune's id."""
        return self.record.id

    @property
    def adapter_id(self) -> str:
        """What the adapter is called once it is trained: deploy it, and ask it, by this name."""
        return self.record.adapter_id

    @operation
    def refresh(self) -> Request[FinetuneStatus]:
        """Look again."""
        return asks.finetune(self.id).map(self._now)

    @operation
    def wait(self, progress: Shown = False) -> Steps[FinetuneStatus]:
        """Until the adapter is trained, through broken connections. Raises JobFailed."""
        yield from await_job(self.record.job_id, progress)
        return self._now((yield from ask(asks.finetune(self.id))))

    @operation
    def metrics(self, after: int = 0) -> Request[FinetuneMetrics]:
        """The curve behind step `after`."""
        return asks.metrics(self.id, after)

    @following
    def follow_metrics(self, after: int = 0) -> Follow[Metric]:
        """Each step as it comes, until the training is over."""
        return asks.metric_events(self.id, after)

    @operation
    def logs(self) -> Request[str]:
        """The end of its log."""
        return asks.logs(self.record.job_id)

    @following
    def follow_logs(self) -> Follow[str]:
        """The lines of its log as they come, until it is over."""
        return asks.log_lines(self.record.job_id)

    @operation
    def interrupt(self) -> Request[Job]:
        """Stop it; it keeps its last checkpoint, from which `resume` goes on."""
        return asks.interrupt(self.record.job_id)

    @operation
    def resume(self) -> Steps[FinetuneStatus]:
        """Go on from the last checkpoint, as a new job; then it can be waited for again."""
        yield from ask(asks.resume(self.id))
        return self._now((yield from ask(asks.finetune(self.id))))

    def _now(self, record: FinetuneStatus) -> FinetuneStatus:
        self.record = record
        return record


class Run(RunCalls, Sync):
    """A fine-tune."""

    def __init__(self, sender: Sender, record: FinetuneStatus) -> None:
        RunCalls.__init__(self, record)
        Sync.__init__(self, sender)


class AsyncRun(RunCalls, Async):
    """The same, awaited."""

    def __init__(self, sender: AsyncSender, record: FinetuneStatus) -> None:
        RunCalls.__init__(self, record)
        Async.__init__(self, sender)


class DeploymentCalls:
    """What can be done with what was asked to be served. `job` carries it: RUNNING as long as it is served."""

    def __init__(self, name: str, job: Job) -> None:
        self.name = name
        self.job = job

    @operation
    def status(self) -> Request[DeployStatus]:
        """What is deployed under this name now, and how it does. Raises NotFound when nothing is."""
        return asks.deployment(self.name).map(served)

    @operation
    def wait(self, progress: Shown = False) -> Steps[DeployStatus]:
        """Until a request sent now would be answered, if need be by an engine that starts for it.

        Raises JobFailed; Superseded when another took its place.
        """
        with telling(progress) as tell:
            for pause in pauses():
                status = (yield from ask(asks.deployment(self.name).outlasting(LONG_PATIENCE))).status
                if status is None or status.job.id != self.job.id:
                    yield from self._missed()
                else:
                    tell(of_job(status.job))
                    self.job = status.job
                    if status.job.status.is_over or status.state is DeploymentState.FAILED:
                        raise JobFailed(status.job)
                    if status.state in (DeploymentState.READY, DeploymentState.IDLE):
                        return status
                yield pause
        raise AssertionError("the pauses have no end")

    def _missed(self) -> Steps[None]:
        """It is not what is deployed: the job says why."""
        self.job = yield from ask(asks.job(self.job.id))
        if self.job.status is JobStatus.FAILED:
            raise JobFailed(self.job)
        if self.job.status.is_over:
            remedy = "look at what is deployed now, and deploy again if that is not what you want"
            raise Superseded(f"{self.job.name} was replaced or undeployed before it was ready", remedy=remedy)


def served(deployment: NamedDeployment) -> DeployStatus:
    """What is deployed. Raises NotFound when nothing is."""
    if deployment.status is None:
        raise NotFound(404, f"nothing is deployed as {deployment.name}", "", "deploy a model first")
    return deployment.status


class Deployment(DeploymentCalls, Sync):
    """A model that was asked to be served."""

    def __init__(self, sender: Sender, name: str, job: Job) -> None:
        DeploymentCalls.__init__(self, name, job)
        Sync.__init__(self, sender)


class AsyncDeployment(DeploymentCalls, Async):
    """The same, awaited."""

    def __init__(self, sender: AsyncSender, name: str, job: Job) -> None:
        DeploymentCalls.__init__(self, name, job)
        Async.__init__(self, sender)
