"""Fine-tuning: what a user asks for, what is recorded, and what worker and trainer tell each other."""

from typing import Annotated, Literal

from pydantic import Field

from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.jobs import Job
from hearth_contracts.names import RecordId


class Hyperparameters(Frozen):
    """How to train a LoRA adapter. Every field has a default that suits a small conversation set."""

    n_epochs: int = Field(
        default=3, ge=1, le=1000, description="passes over the dataset; ignored where max_steps is set"
    )
    max_steps: int | None = Field(default=None, ge=1, description="optimizer steps; overrides n_epochs")
    batch_size: int = Field(default=8, ge=1, le=4096, description="rows per optimizer step")
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    lora_rank: int = Field(default=16, ge=1, le=256)
    lora_alpha: int = Field(default=32, ge=1, le=1024)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    max_length: int = Field(default=1024, ge=8, description="tokens; longer rows are cut off at the end")
    seed: int = 42


class FinetuneRequest(Frozen):
    """Train an adapter for this model on this dataset."""

    name: str = Field(min_length=1, max_length=200, description="name of the training")
    model_id: str
    dataset_id: str
    hyperparameters: Hyperparameters = Hyperparameters()


class Finetune(Frozen):
    """The record of a training. Its id is not its job's: a resumed training has more than one job."""

    id: RecordId
    name: str
    model_id: str
    dataset_id: RecordId
    adapter_id: str = Field(description="what the adapter is called once the job is FINISHED")
    hyperparameters: Hyperparameters
    job_id: RecordId
    created_at: Timestamp


class FinetuneStatus(Frozen):
    """A training with the latest state of its job."""

    id: RecordId
    name: str
    model_id: str
    dataset_id: RecordId
    job: Job
    adapter_id: str
    hyperparameters: Hyperparameters


class RunSpec(Frozen):
    """What the worker gives the trainer process, as a JSON file. Paths are absolute, on the worker's disk."""

    model_path: str
    model_id: str
    data_path: str
    data_format: DatasetFormat
    work_dir: str = Field(description="checkpoints are kept here; the newest valid one is resumed from")
    output_dir: str = Field(description="the finished adapter is written here, whole or not at all")
    hyperparameters: Hyperparameters


class StageEvent(Frozen):
    """The trainer has begun something that takes a while."""

    event: Literal["stage"] = "stage"
    stage: str


class StepEvent(Frozen):
    """An optimizer step is done."""

    event: Literal["step"] = "step"
    step: int
    max_steps: int
    epoch: float
    loss: float | None
    learning_rate: float | None
    grad_norm: float | None
    eta_seconds: float | None


class DoneEvent(Frozen):
    """The adapter lies in `output_dir`."""

    event: Literal["done"] = "done"
    steps: int
    train_loss: float
    tokens: int
    seconds: float


class RefusedEvent(Frozen):
    """The trainer found that this data cannot be learnt from, and says which rows and why."""

    event: Literal["refused"] = "refused"
    reason: str


TrainerEvent = Annotated[StageEvent | StepEvent | DoneEvent | RefusedEvent, Field(discriminator="event")]
"""One line of the trainer's standard output, as JSON."""
