"""The trainer as the worker starts it: a process of the training environment, told what to do by a file."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.finetune import ResumedEvent, RunSpec, StepEvent, TrainerEvent
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_local.paths import CHECKOUT, env_python
from hearth_training.command import trainer_command
from pydantic import TypeAdapter

EVENT: TypeAdapter[TrainerEvent] = TypeAdapter(TrainerEvent)
SUPPORT = CHECKOUT / "tests" / "support"
CONVERSATIONS = SUPPORT / "conversations.jsonl"
MODEL_ID = "tiny/llama"

# With dropout, a resumed run can only repeat the losses if the random numbers go on where they were.
TEACHING = Hyperparameters(
    max_steps=80, batch_size=8, learning_rate=1e-2, lora_rank=16, lora_alpha=32, lora_dropout=0.02
)


def in_training(*arguments: str | Path) -> str:
    """Run a program in the training environment; what it printed."""
    return in_env("training", *arguments)


def in_env(name: str, *arguments: str | Path) -> str:
    """Run a program in an environment; what it printed."""
    command = [str(env_python(name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def spec_for(model: Path, folder: Path, data: Path = CONVERSATIONS, **changes: Any) -> RunSpec:
    """A run that works in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "model_path": str(model),
        "model_id": MODEL_ID,
        "data_path": str(data),
        "data_format": DatasetFormat.MESSAGES,
        "work_dir": str(folder),
        "output_dir": str(folder / "adapter"),
        "hyperparameters": TEACHING,
    }
    return RunSpec(**fields | changes)


@contextmanager
def started(spec: RunSpec, processes: int = 1) -> Iterator["subprocess.Popen[str]"]:
    """The trainer, running; killed at the end if it still does."""
    folder = Path(spec.work_dir)
    (folder / "run.json").write_text(spec.model_dump_json())
    command = trainer_command(env_python("training"), folder / "run.json", processes)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=os.environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: "subprocess.Popen[str]", step: int) -> list[TrainerEvent]:
    """What it says until it has done `step`."""
    assert process.stdout is not None
    events: list[TrainerEvent] = []
    for line in process.stdout:
        events.append(EVENT.validate_json(line))
        if isinstance(events[-1], StepEvent) and events[-1].step >= step:
            return events
    raise AssertionError(f"it ended before step {step}: {events[-3:]}")


@dataclass(frozen=True)
class Ended:
    """How a run went."""

    code: int
    lines: list[str]  # all of its standard output
    log: str

    @property
    def events(self) -> list[TrainerEvent]:
        return [EVENT.validate_json(line) for line in self.lines]

    @property
    def losses(self) -> dict[int, float | None]:
        return losses(self.events)

    @property
    def resumed_from(self) -> list[int]:
        return [event.step for event in self.events if isinstance(event, ResumedEvent)]


def losses(events: list[TrainerEvent]) -> dict[int, float | None]:
    """The loss of each step."""
    return {event.step: event.loss for event in events if isinstance(event, StepEvent)}


def the_rest(process: "subprocess.Popen[str]", spec: RunSpec) -> Ended:
    """Let it run to its end."""
    out, _ = process.communicate(timeout=90)
    return Ended(process.returncode, out.splitlines(), (Path(spec.work_dir) / "log").read_text())


def train(spec: RunSpec) -> Ended:
    """Run the trainer from beginning to end."""
    with started(spec) as process:
        return the_rest(process, spec)


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose chat template has generation markers."""
    folder = tmp_path_factory.mktemp("models") / "marked"
    in_training(SUPPORT / "tiny_llama.py", folder)
    return folder


@pytest.fixture(scope="session")
def unmarked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without them."""
    folder = tmp_path_factory.mktemp("models") / "unmarked"
    in_training(SUPPORT / "tiny_llama.py", folder, "--no-generation-markers")
    return folder
