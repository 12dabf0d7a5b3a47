"""How an adapter is trained: the settings a user may give, their ranges, and the defaults of those not given.

Names are OpenAI's where it has them, else TRL's, transformers' and PEFT's. `upstream` notes the field that ours stands
for, with its default there; a test in the training environment compares both with the libraries' own classes.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.fields import FieldInfo

from hearth_contracts.base import Frozen
from hearth_contracts.names import RecordId

ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,100}$")]
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]


def upstream(name: str, its_default: Any, **field: Any) -> Any:
    """A field that stands for `Class.name` of TRL, transformers or PEFT, whose own default is `its_default`.

    Where no `default` is given, ours is the same.
    """
    field.setdefault("default", its_default)
    return Field(**field, json_schema_extra={"upstream": name, "upstream_default": its_default})


class Hyperparameters(Frozen):
    """How to train a LoRA adapter. What is left out is chosen from the model and the data; "auto" leaves it out too."""

    method: Literal["sft", "dpo"] = Field(
        default="sft", description="sft learns what the assistant says; dpo learns to prefer `chosen` to `rejected`"
    )
    n_epochs: int = upstream(
        "SFTConfig.num_train_epochs", 3, ge=1, le=1000, description="passes over the dataset, unless max_steps is set"
    )
    max_steps: int | None = upstream(
        "SFTConfig.max_steps", -1, default=None, ge=1, description="optimizer steps; overrides n_epochs"
    )
    batch_size: int = upstream(
        "SFTConfig.per_device_train_batch_size", 8, ge=1, le=4096, description="rows per optimizer step, on all devices"
    )
    gradient_accumulation_steps: int | None = upstream(
        "SFTConfig.gradient_accumulation_steps", 1, default=None, ge=1, le=4096,
        description="passes that batch_size is split into, to save memory; null: as few as at most 8 rows each need",
    )  # fmt: skip
    learning_rate: float = upstream("SFTConfig.learning_rate", 2e-5, default=2e-4, gt=0, le=1)
    learning_rate_multiplier: float = Field(
        default=1.0, gt=0, le=100, description="scales the learning rate that is chosen when none is given"
    )
    lr_scheduler_type: Schedule = upstream("SFTConfig.lr_scheduler_type", "linear")
    warmup_steps: float = upstream(
        "SFTConfig.warmup_steps", 0.0, ge=0, description="steps; below 1, that share of all steps"
    )
    weight_decay: float = upstream("SFTConfig.weight_decay", 0.0, ge=0, le=1)
    max_grad_norm: float = upstream("SFTConfig.max_grad_norm", 1.0, gt=0, description="longer gradients are cut to it")
    max_length: int = upstream(
        "SFTConfig.max_length", 1024, ge=8, description="tokens; longer rows are cut off at the end"
    )
    packing: bool = upstream(
        "SFTConfig.packing", False, description="put short rows together in sequences of max_length; sft alone"
    )
    seed: int = upstream("SFTConfig.seed", 42, ge=0, lt=2**32)
    lora_rank: int = upstream("LoraConfig.r", 8, default=16, ge=1, le=256)
    lora_alpha: int = upstream(
        "LoraConfig.lora_alpha", 8, default=32, ge=1, le=1024, description="chosen as twice the rank"
    )
    lora_dropout: float = upstream("LoraConfig.lora_dropout", 0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[tuple[ModuleName, ...], Field(min_length=1)] = upstream(
        "LoraConfig.target_modules",
        None,
        default="all-linear",
        description="layers to adapt, by the end of their names",
    )
    use_dora: bool = upstream("LoraConfig.use_dora", False, description="DoRA; slower, cannot be deployed unmerged")
    load_in_4bit: bool = upstream("ModelConfig.load_in_4bit", False, description="QLoRA: the base in 4 bits (NF4)")
    beta: float = upstream("DPOConfig.beta", 0.1, gt=0, le=100, description="dpo: how near to the base to stay")
    validation_dataset_id: RecordId | None = Field(default=None, description="a dataset to measure eval_loss on")
    validation_split: float = Field(
        default=0.0, ge=0, le=0.5, description="share of the rows, drawn by the seed, kept back to measure eval_loss on"
    )
    eval_steps: int | None = upstream(
        "SFTConfig.eval_steps", None, ge=1, description="steps from one eval_loss to the next; null: ten a run"
    )
    save_steps: int | None = upstream(
        "SFTConfig.save_steps", 500, default=None, ge=1, description="steps between checkpoints; null: ten a run"
    )
    early_stopping_patience: int | None = upstream(
        "EarlyStoppingCallback.early_stopping_patience", 1, default=None, ge=1,
        description="end when eval_loss was no better so many times running; null: never",
    )  # fmt: skip
    early_stopping_threshold: float = upstream(
        "EarlyStoppingCallback.early_stopping_threshold", 0.0, ge=0, description="what counts as better"
    )

    @model_validator(mode="before")
    @classmethod
    def _auto_is_left_out(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != "auto"} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        passes = self.gradient_accumulation_steps
        if passes is not None and self.batch_size % passes:
            raise ValueError(f"batch_size {self.batch_size} cannot be split into {passes} gradient_accumulation_steps")
        if self.validation_dataset_id is not None and self.validation_split:
            raise ValueError("give either validation_dataset_id or validation_split, not both")
        if not self.validates and (self.early_stopping_patience is not None or self.eval_steps is not None):
            raise ValueError("eval_steps and early stopping need a validation_dataset_id or a validation_split")
        if self.method == "dpo" and self.packing:
            raise ValueError("packing is for sft alone")
        return self

    @property
    def validates(self) -> bool:
        """Whether an eval_loss is measured."""
        return self.validation_dataset_id is not None or self.validation_split > 0

    def kept_back(self, rows: int) -> int:
        """How many of the dataset's rows are kept back for validation."""
        return min(max(1, round(rows * self.validation_split)), rows - 1) if self.validation_split else 0

    def steps(self, rows: int) -> int:
        """Optimizer steps over so many rows to learn from, unless it is stopped early."""
        return self.max_steps or max(1, -(-rows // self.batch_size) * self.n_epochs)

    def processes(self, most: int) -> int:
        """Among how many processes, `most` of them or fewer, a batch can be split evenly."""
        passes = self.gradient_accumulation_steps or 1
        return max(count for count in range(1, max(most, 1) + 1) if self.batch_size % (count * passes) == 0)


def upstream_of(field: FieldInfo) -> tuple[str, Any] | None:
    """The `Class.name` that a field stands for and its default there, or None for a field of OpenAI's or our own."""
    extra = field.json_schema_extra
    return (str(extra["upstream"]), extra["upstream_default"]) if isinstance(extra, dict) else None
