"""One training run: TRL's SFTTrainer with a LoRA adapter, on rows we have encoded ourselves."""

import os
import shutil
import signal
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from hearth_contracts.finetune import DoneEvent, Hyperparameters, RefusedEvent, RunSpec, StageEvent, StepEvent
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from hearth_trainer.checkpoints import newest_valid
from hearth_trainer.conversations import read_conversations
from hearth_trainer.events import EventStream
from hearth_trainer.loss import LabelledLossTrainer, is_plain
from hearth_trainer.masking import CannotEncode, Example, cut, encode, learns_something

STOPPED = 128 + signal.SIGTERM
"""The exit code of a run that was asked to stop and has saved a checkpoint."""

MOST_ROWS_AT_ONCE = 8
CHECKPOINTS_A_RUN = 10
ROWS_NAMED = 10
SMALL_MODEL_BYTES = 200_000_000


class Refused(Exception):
    """This data or model cannot be trained on; the message names the rows and the reason."""


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Says how each step went, and ends the run at the next step when the process is asked to stop."""

    def __init__(self, events: EventStream) -> None:
        self.events = events
        self.stopping = False
        self._began = 0.0
        self._first_step = 0
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where the clock starts; a resumed run starts at its checkpoint's step."""
        self._began, self._first_step = time.monotonic(), state.global_step
        self.events.say(StageEvent(stage="training"))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop when asked to."""
        if self.stopping:
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Pass the step's numbers on."""
        if not logs or "loss" not in logs:
            return
        done = state.global_step - self._first_step
        pace = (time.monotonic() - self._began) / max(done, 1)
        self.events.say(
            StepEvent(
                step=state.global_step,
                max_steps=state.max_steps,
                epoch=state.epoch or 0,
                loss=logs["loss"],
                learning_rate=logs.get("learning_rate"),
                grad_norm=logs.get("grad_norm"),
                eta_seconds=pace * (state.max_steps - state.global_step),
            )
        )


def run(spec: RunSpec, events: EventStream) -> int:
    """Train, or go on training. Returns the process's exit code; a refusal is told as an event, with code 0."""
    began = time.monotonic()
    try:
        events.say(StageEvent(stage="reading conversations"))
        tokenizer = _tokenizer(spec)
        examples = encode_all(tokenizer, spec)
        events.say(StageEvent(stage="loading the model"))
        trainer, reporter = _trainer(spec, tokenizer, examples, events)
    except Refused as refusal:
        events.say(RefusedEvent(reason=str(refusal)))
        return 0
    checkpoint = newest_valid(Path(trainer.args.output_dir))
    if checkpoint is not None:
        events.say(StageEvent(stage=f"resuming from {checkpoint.name}"))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if reporter.stopping and trainer.state.global_step < trainer.state.max_steps:
        return STOPPED
    events.say(StageEvent(stage="saving the adapter"))
    _save(trainer, spec)
    events.say(
        DoneEvent(
            steps=trainer.state.global_step,
            train_loss=fmean(entry["loss"] for entry in trainer.state.log_history if "loss" in entry),
            tokens=sum(len(example.input_ids) for example in examples),
            seconds=time.monotonic() - began,
        )
    )
    return 0


def _tokenizer(spec: RunSpec) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(spec.model_path, local_files_only=True, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise Refused(
            f"{spec.model_id} has no chat template, so conversations cannot be shown to it: choose an instruct model, "
            "or add a chat_template.jinja to the model's folder"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode_all(tokenizer: Any, spec: RunSpec) -> list[Example]:
    """Every row, cut to max_length. Raises Refused, naming the rows that cannot be learnt from."""
    limit = spec.hyperparameters.max_length
    examples: list[Example] = []
    rejected: list[str] = []
    empty: list[tuple[int, int]] = []
    for conversation in read_conversations(Path(spec.data_path), spec.data_format):
        try:
            example = encode(tokenizer, conversation)
        except CannotEncode as error:
            rejected.append(f"line {conversation.line}: {error}")
            continue
        if learns_something(cut(example, limit)):
            examples.append(cut(example, limit))
        else:
            empty.append((conversation.line, len(example.input_ids)))
    if rejected:
        raise Refused(f"{len(rejected)} rows do not fit {spec.model_id}: {'; '.join(rejected[:ROWS_NAMED])}")
    if empty:
        lines = ", ".join(str(line) for line, _ in empty[:ROWS_NAMED])
        longest = max(length for _, length in empty)
        raise Refused(
            f"in {len(empty)} rows nothing the assistant says is within max_length={limit} tokens, so nothing could be "
            f"learnt from them: lines {lines}. Set max_length to {longest} or shorten the rows"
        )
    return examples


def _trainer(
    spec: RunSpec, tokenizer: Any, examples: list[Example], events: EventStream
) -> tuple[SFTTrainer, Reporter]:
    settings = spec.hyperparameters
    model = AutoModelForCausalLM.from_pretrained(
        spec.model_path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=_dtype(spec)
    )
    if getattr(model.config, "quantization_config", None) is not None:
        raise Refused(f"{spec.model_id} is quantized; train on the model it was made from")
    rows = rows_at_once(settings.batch_size)
    steps = settings.max_steps or max(1, -(-len(examples) // settings.batch_size) * settings.n_epochs)
    arguments = SFTConfig(
        output_dir=str(Path(spec.work_dir) / "checkpoints"),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=settings.batch_size // rows,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        seed=settings.seed,
        logging_steps=1,
        save_steps=max(1, steps // CHECKPOINTS_A_RUN),
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        gradient_checkpointing=torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    reporter = Reporter(events)
    set_seed(settings.seed)  # the adapter's first weights are drawn before the trainer seeds anything
    adapted = get_peft_model(model, _lora(settings))
    kind = LabelledLossTrainer if is_plain(adapted) else SFTTrainer
    trainer = kind(
        model=adapted,
        args=arguments,
        train_dataset=Dataset.from_list([{"input_ids": e.input_ids, "labels": e.labels} for e in examples]),
        processing_class=tokenizer,
        callbacks=[reporter],
    )
    trainer.processing_class = None  # or every checkpoint stores the tokenizer too: 33 MB for Gemma
    return trainer, reporter


def rows_at_once(batch_size: int) -> int:
    """The rows that go through the model together: the largest divisor of the batch that is not too many."""
    return max(rows for rows in range(1, MOST_ROWS_AT_ONCE + 1) if batch_size % rows == 0)


def _dtype(spec: RunSpec) -> torch.dtype:
    """bfloat16; but small models on a CPU in float32, which is steadier and costs them little there.

    Gemma 3 270M on two cores took 118 s in bfloat16 and 188 s in float32.
    """
    weights = sum(path.stat().st_size for path in Path(spec.model_path).glob("*.safetensors"))
    small = weights < SMALL_MODEL_BYTES and not torch.cuda.is_available()
    return torch.float32 if small else torch.bfloat16


def _lora(settings: Hyperparameters) -> LoraConfig:
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _save(trainer: SFTTrainer, spec: RunSpec) -> None:
    """Write the adapter under another name, then give it its own: it is found whole or not at all."""
    output = Path(spec.output_dir)
    scratch = output.with_name(f".{output.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.peft_config["default"].base_model_name_or_path = spec.model_id
    model.save_pretrained(str(scratch), safe_serialization=True, save_embedding_layers=False)
    (scratch / "README.md").unlink(missing_ok=True)  # PEFT's empty card; the manifest is ours
    for path in scratch.iterdir():
        path.chmod(0o644)  # safetensors makes its files for their owner alone, who in a container is somebody else
    shutil.rmtree(output, ignore_errors=True)
    os.replace(scratch, output)
