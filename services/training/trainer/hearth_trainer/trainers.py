"""TRL's trainers, set as a run asks for and counting what they learn from."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from hearth_contracts.finetune import RunSpec
from transformers import EarlyStoppingCallback
from trl import SFTConfig, SFTTrainer, pack_dataset

from hearth_trainer.loss import LabelledLossTrainer, is_plain
from hearth_trainer.preferences import dpo_trainer
from hearth_trainer.reporter import Reporter
from hearth_trainer.rows import Encoded, Split
from hearth_trainer.sharding import PROCESSES, is_sharded

MOST_ROWS_AT_ONCE = 8
CHECKPOINTS_A_RUN = 10


class Counted:
    """Mixed into a trainer: tells the reporter how many tokens each pass had."""

    def __init__(self, reporter: Reporter, **options: Any) -> None:
        super().__init__(**options)
        self._reporter = reporter

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        """One pass over a part of the batch."""
        mask = inputs.get("attention_mask")
        self._reporter.tokens_seen += inputs["input_ids"].numel() if mask is None else mask.sum()
        return super().training_step(model, inputs, *rest, **more)  # type: ignore[misc]


class CountedSFT(Counted, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, counting."""


class CountedLabelledLoss(Counted, LabelledLossTrainer):
    """Ours, counting."""


def trainer_for(spec: RunSpec, tokenizer: Any, model: Any, split: Split, reporter: Reporter) -> Any:
    """A trainer of TRL's, ready to run."""
    if spec.hyperparameters.method == "sft":
        trainer: Any = _sft_trainer(spec, tokenizer, model, split, reporter)
    else:
        arguments = common_arguments(spec, len(split.train), bool(split.validation))
        trainer = dpo_trainer(spec, tokenizer, model, split, reporter, arguments, callbacks(spec, reporter))
    trainer.args.save_only_model = False
    return trainer


def _sft_trainer(spec: RunSpec, tokenizer: Any, model: Any, split: Split, reporter: Reporter) -> SFTTrainer:
    rows = as_dataset(spec, split.train)
    arguments = SFTConfig(
        **common_arguments(spec, len(rows), bool(split.validation)),
        max_length=None,
        packing=spec.hyperparameters.packing,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    kind = CountedLabelledLoss if is_plain(model) and PROCESSES == 1 else CountedSFT
    trainer = kind(
        reporter,
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=as_dataset(spec, split.validation) if split.validation else None,
        processing_class=tokenizer,
        callbacks=callbacks(spec, reporter),
    )
    trainer.processing_class = None  # or every checkpoint stores the tokenizer too: 33 MB for Gemma
    return trainer


def as_dataset(spec: RunSpec, examples: list[Encoded]) -> Dataset:
    """The rows as TRL takes them, put together where the run packs them."""
    rows = Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])
    return pack_dataset(rows, spec.hyperparameters.max_length) if spec.hyperparameters.packing else rows


def callbacks(spec: RunSpec, reporter: Reporter) -> list[Any]:
    """What looks on while a run goes."""
    patience = spec.hyperparameters.early_stopping_patience
    if patience is None:
        return [reporter]
    return [reporter, EarlyStoppingCallback(patience, spec.hyperparameters.early_stopping_threshold)]


def common_arguments(spec: RunSpec, rows: int, validates: bool) -> dict[str, Any]:
    """The arguments that all of TRL's trainers share."""
    settings = spec.hyperparameters
    at_once, passes = division(settings.batch_size, settings.gradient_accumulation_steps, PROCESSES)
    steps = settings.steps(rows)
    cuda = torch.cuda.is_available()
    save_steps = settings.save_steps or max(1, steps // CHECKPOINTS_A_RUN)
    arguments: dict[str, Any] = {
        "output_dir": str(Path(spec.work_dir) / "checkpoints"),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        "gradient_accumulation_steps": passes,
        "max_steps": steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "logging_steps": 1,
        "save_steps": save_steps,
        "save_total_limit": 2,
        # transformers refuses to save the optimizer beside a sharded base, since it might be sharded too. Ours is of
        # the adapter alone, which is not; so `trainer_for` takes this back once the trainer is made.
        "save_only_model": is_sharded(spec),
        "save_on_each_node": True,  # where early stopping goes back to the best one
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": not cuda,
        "bf16": cuda,
        "gradient_checkpointing": cuda,
        "dataloader_pin_memory": cuda,
    }
    if validates:
        every = settings.eval_steps or max(1, steps // CHECKPOINTS_A_RUN)
        arguments |= {"eval_strategy": "steps", "eval_steps": every, "prediction_loss_only": True}
        if settings.early_stopping_patience is not None:  # the best adapter is kept, so each that is measured is saved
            arguments |= {"save_steps": every, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    return arguments


def division(batch_size: int, passes: int | None, world: int) -> tuple[int, int]:
    """Rows that go through the model together on each of `world` devices, and passes a step, for a batch they divide.

    Without a number of passes, as few as the largest divisor of a device's share that is not too many rows needs.
    """
    share = batch_size // world
    if passes is None:
        passes = share // max(rows for rows in range(1, MOST_ROWS_AT_ONCE + 1) if share % rows == 0)
    return share // passes, passes
