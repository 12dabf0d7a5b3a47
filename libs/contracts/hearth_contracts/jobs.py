"""A job: one piece of work that takes long enough to be watched, interrupted and retried."""

from enum import StrEnum

from pydantic import Field

from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.names import RecordId


class JobStatus(StrEnum):
    """Where a job stands. FINISHED, FAILED and KILLED are terminal: they never change."""

    CREATED = "CREATED"  # recorded and queued; nobody works on it yet
    RUNNING = "RUNNING"  # a worker holds its lease, or it waits for its next attempt
    FINISHED = "FINISHED"  # did what it was asked to do
    FAILED = "FAILED"  # could not; `error` says what happened and what to do
    KILLED = "KILLED"  # interrupted; no process of it is left

    @property
    def is_over(self) -> bool:
        """Whether this is a terminal state."""
        return self in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.KILLED)


class JobKind(StrEnum):
    """What a job does; each kind has a queue of its own."""

    DOWNLOAD = "download"  # a model from the hub into the model store
    IMPORT = "import"  # a model from a local folder into the model store
    FINETUNE = "finetune"  # train an adapter
    MERGE = "merge"  # an adapter into its base, as a new model
    DEPLOY = "deploy"  # serve a model: runs as long as it is deployed


class Job(Frozen):
    """The record of a job, as every service and client sees it."""

    id: RecordId
    name: str = Field(
        description="DOWNLOAD_<model>, DEPLOY_<model>_adapters_<a>_<b>, FT_<model>_<dataset>, MERGE_<adapter>"
    )
    status: JobStatus
    started_at: Timestamp = Field(description="when work began, UTC; until then, when the job was created")
    kind: JobKind
    created_at: Timestamp
    finished_at: Timestamp | None = None
    progress: float = Field(default=0.0, ge=0, le=1, description="share done in this attempt, 0 to 1")
    stage: str = Field(default="queued", description="what is being done right now, in words")
    eta_seconds: float | None = Field(default=None, description="estimated seconds left, where it can be told")
    error: str | None = Field(default=None, description="for FAILED: what happened and what to do")
    attempt: int = Field(default=0, ge=0, description="how many times a worker has begun it; also the fencing token")
