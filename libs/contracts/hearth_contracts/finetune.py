"""Fine-tuning: what a user asks for, what is recorded, and what worker and trainer tell each other."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job
from hearth_contracts.names import RecordId

Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]
"""Up to 16 pairs, as OpenAI has them."""


class Resources(Frozen):
    """How many processes train together, and what each has. On the worker's own machine there is nothing to choose."""

    workers: int = Field(
        default=1, ge=1, le=4096, description="processes that train together, spread over a Ray cluster's nodes"
    )
    gpus_per_worker: Literal[0, 1] | None = Field(
        default=None, description="of a Ray cluster's; null: one if the cluster has any"
    )
    cpus_per_worker: int = Field(default=1, ge=1, le=4096, description="cores of a Ray cluster's that each takes")
    sharding: Literal["none", "full"] | None = Field(
        default=None,
        exclude_if=lambda sharding: sharding is None,  # a worker of the version before knows no such field
        description="what each worker holds of the base: none, all of it (DDP); full, its part (FSDP); "
        "null: full where one GPU could not hold it",
    )

    @property
    def need_a_cluster(self) -> bool:
        """Whether they say anything else than what a run gets that says nothing; spelt out or not is the same."""
        return self.model_copy(update={"sharding": None}) != Resources()  # what one worker holds is all of the base

    @model_validator(mode="after")
    def _has_somebody_to_share_with(self) -> Self:
        if self.sharding == "full" and self.workers == 1:
            raise ValueError("sharding is among workers: ask for two or more, or leave it out")
        return self


class FinetuneRequest(Frozen):
    """Train an adapter for this model on this dataset."""

    name: str = Field(min_length=1, max_length=200, description="name of the training")
    model_id: str
    dataset_id: str
    hyperparameters: Hyperparameters = Hyperparameters()
    resources: Resources = Resources()
    priority: int = Field(
        default=0, ge=-100, le=100, description="runs that wait begin by priority, the highest first, then by age"
    )
    deploy: bool = Field(
        default=False, description="serve the adapter once it is trained, if its base is the one deployed by then"
    )
    metadata: Metadata = Field(default={}, description="pairs of the asker's own, kept and given back")


class FinetunePlan(Frozen):
    """What a request would do: every setting, given or chosen. Nothing has begun."""

    model_id: str
    dataset_id: RecordId
    rows: int = Field(description="rows of the dataset, those kept back for validation included")
    steps: int = Field(description="optimizer steps; fewer with packing or early stopping")
    hyperparameters: Hyperparameters
    resources: Resources = Field(default=Resources(), description="as asked for, and whether the base is sharded")
    chosen: tuple[str, ...] = Field(description="the settings that were not given but chosen from model and data")


class Finetune(Frozen):
    """The record of a training. Its id is not its job's: a resumed training has more than one job."""

    id: RecordId
    name: str
    model_id: str
    dataset_id: RecordId
    adapter_id: str = Field(description="what the adapter is called once the job is FINISHED")
    hyperparameters: Hyperparameters = Field(description="every setting, given or chosen")
    resources: Resources = Resources()
    job_id: RecordId = Field(description="the job that does it now, or did last")
    previous_job_ids: tuple[RecordId, ...] = Field(default=(), description="jobs that ended early, oldest first")
    priority: int = 0
    deploy: bool = False
    metadata: Metadata = Field(default={})
    created_at: Timestamp


class FinetuneResult(Frozen):
    """How a finished training came out."""

    steps: int
    train_loss: float = Field(description="mean over all steps")
    tokens: int = Field(description="tokens that went through the model while training")
    seconds: float = Field(description="time of the attempt that finished")
    base_eval_loss: float | None = Field(default=None, description="of the base alone, on the validation rows")
    eval_loss: float | None = Field(default=None, description="of base and adapter, on the validation rows")
    stopped_early: bool = Field(
        default=False, description="eval_loss was no better any more; the adapter is that of the best measurement"
    )


class FinetuneStatus(Finetune):
    """A training with the latest state of its job."""

    job: Job
    position: int | None = Field(
        default=None,
        description="place among the trainings that wait, from 1; it may begin sooner where others wait for a cluster",
    )
    checkpoint_step: int | None = Field(default=None, description="the step that a resumed training goes on from")
    result: FinetuneResult | None = None


class Metric(Frozen):
    """How one step of a training went."""

    step: int
    max_steps: int
    epoch: float
    loss: float | None = None
    eval_loss: float | None = Field(
        default=None, description="on the validation rows, at the steps where it is measured"
    )
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = Field(default=None, description="over this attempt")
    memory_bytes: int | None = Field(default=None, description="peak of the GPU's memory, else of the process's")
    eta_seconds: float | None = None
    at: Timestamp


class FinetuneMetrics(Frozen):
    """The curve of a training: every step of a short one, evenly thinned for a long one."""

    finetune_id: RecordId
    job: Job
    points: tuple[Metric, ...]


class RunSpec(Frozen):
    """What the worker gives the trainer process, as a JSON file. Paths are absolute, on the worker's disk."""

    model_path: str
    model_id: str
    data_path: str
    data_format: DatasetFormat
    work_dir: str = Field(description="checkpoints are kept here; the newest valid one is resumed from")
    output_dir: str = Field(description="the finished adapter is written here, whole or not at all")
    validation_path: str | None = None
    validation_format: DatasetFormat | None = None
    hyperparameters: Hyperparameters
    resources: Resources = Resources()


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
    tokens_per_second: float | None = None
    memory_bytes: int | None = None


class EvalEvent(Frozen):
    """The loss on the validation rows after `step`."""

    event: Literal["eval"] = "eval"
    step: int
    eval_loss: float


class CheckpointEvent(Frozen):
    """`checkpoints/checkpoint-<step>` under `work_dir` is whole; it stays there until two newer ones are."""

    event: Literal["checkpoint"] = "checkpoint"
    step: int


class ResumedEvent(Frozen):
    """The training goes on from the checkpoint of `step`; what was reported after it is void."""

    event: Literal["resumed"] = "resumed"
    step: int


class DoneEvent(FinetuneResult):
    """The adapter lies in `output_dir`."""

    event: Literal["done"] = "done"


class RefusedEvent(Frozen):
    """The trainer found that this data cannot be learnt from, and says which rows and why."""

    event: Literal["refused"] = "refused"
    reason: str


TrainerEvent = Annotated[
    StageEvent | StepEvent | EvalEvent | CheckpointEvent | ResumedEvent | DoneEvent | RefusedEvent,
    Field(discriminator="event"),
]
"""One line of the trainer's standard output, as JSON."""
