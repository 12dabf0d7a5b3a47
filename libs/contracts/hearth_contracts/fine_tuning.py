"""OpenAI's fine-tuning objects, as its clients send and read them. Times are Unix seconds."""

from typing import Literal

from pydantic import Field

from hearth_contracts.base import Frozen
from hearth_contracts.finetune import Metadata
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.names import is_record_id

JOB_PREFIX = "ftjob-"
"""A fine-tuning job is a fine-tune; its id is the fine-tune's behind this."""


def job_id(finetune_id: str) -> str:
    """What OpenAI's routes call a fine-tune."""
    return JOB_PREFIX + finetune_id


def finetune_id_of(job: str) -> str | None:
    """The fine-tune that a fine-tuning job's id means, or None for what cannot be one."""
    finetune_id = job.removeprefix(JOB_PREFIX)
    return finetune_id if job.startswith(JOB_PREFIX) and is_record_id(finetune_id) else None


class MethodSettings(Frozen):
    """The settings of one method: OpenAI's `n_epochs`, `batch_size`, `learning_rate_multiplier`, or any of Hearth's."""

    hyperparameters: Hyperparameters | None = None


class Method(Frozen):
    """How to train: `supervised` learns what the assistant says, `dpo` learns to prefer one answer to another."""

    type: Literal["supervised", "dpo"]
    supervised: MethodSettings | None = None
    dpo: MethodSettings | None = None

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """The settings of the method that is asked for."""
        chosen = self.supervised if self.type == "supervised" else self.dpo
        return chosen.hyperparameters if chosen else None


class JobRequest(Frozen):
    """Train an adapter for a model on a file."""

    model: str = Field(min_length=1, description="a base model's id, or the deployed base by the name it is served by")
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = Field(default=None, description="OpenAI's older place for them")
    method: Method | None = None
    suffix: str | None = Field(default=None, min_length=1, max_length=64, description="begins the new model's name")
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    metadata: Metadata | None = None
    deploy: bool = Field(
        default=True, description="Hearth's: serve the new model beside its base, if that is the one deployed by then"
    )


class JobFault(Frozen):
    """Why a fine-tuning job failed."""

    code: str
    message: str
    param: str | None = None


class SettingsUsed(Frozen):
    """OpenAI's hyperparameters, with what `auto` came to."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


class MethodSettingsUsed(Frozen):
    """The settings of one method, as they are used."""

    hyperparameters: SettingsUsed


class MethodUsed(Frozen):
    """The method, as it is used."""

    type: Literal["supervised", "dpo"]
    supervised: MethodSettingsUsed | None = None
    dpo: MethodSettingsUsed | None = None


JobState = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class FineTuningJob(Frozen):
    """OpenAI's fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None = Field(description="the adapter's id, once it is trained: a model's name for clients")
    organization_id: str = "hearth"
    status: JobState
    error: JobFault | None
    training_file: str
    validation_file: str | None
    result_files: tuple[str, ...] = Field(default=(), description="always empty: the curve is in the job's events")
    trained_tokens: int | None
    hyperparameters: SettingsUsed
    method: MethodUsed
    seed: int
    integrations: tuple[str, ...] = Field(default=(), description="always empty")
    metadata: Metadata


class StepData(Frozen):
    """The numbers of a step."""

    step: int
    total_steps: int
    train_loss: float | None
    valid_loss: float | None


class JobEvent(Frozen):
    """Something that happened to a fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics"] = "message"
    data: StepData | None = None


class CheckpointMetrics(Frozen):
    """The losses at a checkpoint."""

    step: int
    train_loss: float | None
    full_valid_loss: float | None


class JobCheckpoint(Frozen):
    """A state of the training that can be deployed: the finished one."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics
