"""What a run tells while it goes on, and how it is stopped."""

import resource
import time
from pathlib import Path
from typing import Any

import torch
from hearth_contracts.finetune import CheckpointEvent, EvalEvent, StageEvent, StepEvent
from transformers import TrainerCallback

from hearth_trainer.events import Owner


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Says how each step went, and ends the run at the next step when its owner asks it to stop."""

    def __init__(self, events: Owner) -> None:
        self.events = events
        self.tokens_seen: Any = 0  # by this process, padding left out; a number on the device where there is one
        self._began = 0.0
        self._first_step = 0
        events.heed()

    @property
    def stopping(self) -> bool:
        """Whether this process, or another that trains with it, was asked to stop."""
        if not torch.distributed.is_initialized():
            return self.events.asks_to_stop
        asked = torch.tensor(int(self.events.asks_to_stop), device="cuda" if torch.cuda.is_available() else "cpu")
        torch.distributed.all_reduce(asked)
        return bool(asked)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where the clock starts; a resumed run starts at its checkpoint's step."""
        self._began, self._first_step = time.monotonic(), state.global_step
        if state.best_model_checkpoint is not None:  # as another machine may have written it
            state.best_model_checkpoint = str(Path(args.output_dir) / Path(state.best_model_checkpoint).name)
        self.events.say(StageEvent(stage="training"))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop when asked to."""
        if self.stopping:
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is whole."""
        self.events.say(CheckpointEvent(step=state.global_step))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """Pass the validation loss on."""
        if "eval_loss" in metrics:
            self.events.say(EvalEvent(step=state.global_step, eval_loss=metrics["eval_loss"]))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Pass the step's numbers on."""
        if not logs or "loss" not in logs:
            return
        seconds = time.monotonic() - self._began
        pace = seconds / max(state.global_step - self._first_step, 1)
        self.events.say(
            StepEvent(
                step=state.global_step,
                max_steps=state.max_steps,
                epoch=state.epoch or 0,
                loss=logs["loss"],
                learning_rate=logs.get("learning_rate"),
                grad_norm=logs.get("grad_norm"),
                eta_seconds=pace * (state.max_steps - state.global_step),
                tokens_per_second=int(self.tokens_seen) * args.world_size / max(seconds, 1e-9),
                memory_bytes=_peak_memory(),
            )
        )


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
