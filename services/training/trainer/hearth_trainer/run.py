"""One training run: TRL with a LoRA adapter, on rows we have encoded ourselves."""

import math
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hearth_contracts.finetune import DoneEvent, RefusedEvent, ResumedEvent, RunSpec, StageEvent

from hearth_trainer.checkpoints import newest_valid
from hearth_trainer.events import Owner
from hearth_trainer.model import check_base, load_adapted, load_tokenizer
from hearth_trainer.refusal import Refused
from hearth_trainer.reporter import Reporter
from hearth_trainer.rows import Split, encode_split
from hearth_trainer.trainers import trainer_for

STOPPED = 128 + signal.SIGTERM
"""The exit code of a run that was asked to stop and has saved a checkpoint."""


@dataclass(frozen=True)
class Prepared:
    """All that a run needs for its first step."""

    trainer: Any
    reporter: Reporter
    split: Split


def run(spec: RunSpec, events: Owner) -> int:
    """Train, or go on training. Returns the process's exit code; a refusal is told as an event, with code 0."""
    began = time.monotonic()
    try:
        prepared = _prepare(spec, events)
    except Refused as refusal:
        events.say(RefusedEvent(reason=str(refusal)))
        return 0
    trainer = prepared.trainer
    with trainer.accelerator.local_main_process_first():  # two of one folder would remove the broken under each other
        checkpoint = newest_valid(Path(trainer.args.output_dir))
    if checkpoint is not None:
        events.say(ResumedEvent(step=int(checkpoint.name.rpartition("-")[2])))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if prepared.reporter.stopping and trainer.state.global_step < trainer.state.max_steps:
        return STOPPED
    base_loss, loss = _compare(trainer, spec, events) if prepared.split.validation else (None, None)
    events.say(StageEvent(stage="saving the adapter"))
    if trainer.is_world_process_zero():
        _save(trainer, spec)
    a_pass = sum(len(example.input_ids) for example in prepared.split.train)
    events.say(
        DoneEvent(
            steps=trainer.state.global_step,
            train_loss=fmean(entry["loss"] for entry in trainer.state.log_history if "loss" in entry),
            tokens=round(a_pass * (trainer.state.epoch or 0)),
            seconds=time.monotonic() - began,
            base_eval_loss=base_loss,
            eval_loss=loss,
            stopped_early=trainer.state.global_step < trainer.state.max_steps,
        )
    )
    return 0


def _prepare(spec: RunSpec, events: Owner) -> Prepared:
    events.say(StageEvent(stage="reading conversations"))
    vocabulary = check_base(spec)
    tokenizer = load_tokenizer(spec)
    split = encode_split(tokenizer, spec, vocabulary)
    events.say(StageEvent(stage="loading the model"))
    reporter = Reporter(events)
    return Prepared(trainer_for(spec, tokenizer, load_adapted(spec), split, reporter), reporter, split)


def _compare(trainer: Any, spec: RunSpec, events: Owner) -> tuple[float, float]:
    """The loss on the validation rows of the base alone, and with its adapter."""
    events.say(StageEvent(stage="comparing with the base"))
    if spec.hyperparameters.method == "dpo":  # the base is the reference, which prefers neither answer to itself
        return math.log(2), float(trainer.evaluate()["eval_loss"])
    with trainer.accelerator.unwrap_model(trainer.model).disable_adapter():
        base = trainer.evaluate(metric_key_prefix="base")["base_loss"]
    return float(base), float(trainer.evaluate()["eval_loss"])


def _save(trainer: Any, spec: RunSpec) -> None:
    """Write the adapter under another name, then give it its own: it is found whole or not at all."""
    output = Path(spec.output_dir)
    scratch = output.with_name(f".{output.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.peft_config["default"].base_model_name_or_path = spec.model_id
    model.save_pretrained(str(scratch), safe_serialization=True, save_embedding_layers=False)
    (scratch / "README.md").unlink(missing_ok=True)  # PEFT's empty card; the worker writes a better one
    for path in scratch.iterdir():
        path.chmod(0o644)  # safetensors makes its files for their owner alone, who in a container is somebody else
    shutil.rmtree(output, ignore_errors=True)
    os.replace(scratch, output)
