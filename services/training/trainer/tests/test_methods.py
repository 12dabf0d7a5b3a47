"""Each way to train, on the real libraries and a tiny model. All runs are in one process: imports are slow."""

import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hearth_contracts.datasets import DatasetFormat
from hearth_contracts.finetune import DoneEvent, EvalEvent, RunSpec, TrainerEvent
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_local.paths import env_python

from services.training.trainer.tests.conftest import CONVERSATIONS, EVENT, losses, spec_for

pytestmark = pytest.mark.timeout(400)
HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = {"max_steps": 40, "batch_size": 8, "learning_rate": 1e-2, "seed": 3}
SHORT = 48
"""Tokens; more than any of the rows has, and less than three of them."""


def preferences(path: Path) -> Path:
    """Pairs: the right answer to each question, and the next question's."""
    rows = [json.loads(line)["messages"] for line in CONVERSATIONS.read_text().splitlines()]
    with path.open("w") as file:
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
            pair = {"prompt": row[:-1], "chosen": row[-1:], "rejected": other[-1:]}
            file.write(json.dumps(pair) + "\n")
    return path


@dataclass(frozen=True)
class Trained:
    """What all the runs told, and what was then found of their adapters."""

    told: dict[str, list[TrainerEvent]]
    found: dict[str, Any]

    def done(self, name: str) -> DoneEvent:
        last = self.told[name][-1]
        assert isinstance(last, DoneEvent), last
        return last


@pytest.fixture(scope="module")
def trained(unmarked: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("methods")
    pairs = str(preferences(folder / "pairs.jsonl"))

    def spec(name: str, **settings: Any) -> RunSpec:
        return spec_for(unmarked, folder / name, hyperparameters=Hyperparameters(**{**SETTINGS, **settings}))

    specs = {
        "lora": spec("lora"),
        "dora": spec("dora", use_dora=True),
        "qlora": spec("qlora", load_in_4bit=True),
        "dpo": spec("dpo", method="dpo", learning_rate=1e-3).model_copy(
            update={
                "data_path": pairs,
                "data_format": DatasetFormat.PREFERENCE,
                "validation_path": pairs,
                "validation_format": DatasetFormat.PREFERENCE,
            }
        ),
        # Every row in each step, so that how they are put together is all that differs.
        "packed": spec("packed", batch_size=16, max_steps=5, packing=True, max_length=SHORT),
        "unpacked": spec("unpacked", batch_size=10, max_steps=5, max_length=SHORT),
        # What the answers to three questions are cannot be learnt from seven others.
        "early": spec("early", max_steps=200, validation_split=0.3, eval_steps=4, early_stopping_patience=2),
    }
    for name, each in specs.items():
        (folder / f"{name}.json").write_text(each.model_dump_json())
    words = [str(env_python("training")), str(HERE / "methods_program.py"), *(str(folder / f"{n}.json") for n in specs)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    told = {
        name: [EVENT.validate_json(line) for line in (folder / f"{name}.events").read_text().splitlines()]
        for name in specs
    }
    return Trained(told, json.loads((folder / "found.json").read_text()))


def test_dpo_learns_to_prefer_what_was_chosen(trained: Trained) -> None:
    base, adapted = trained.found["margins"]["base"], trained.found["margins"]["adapted"]
    assert len(base) == len(adapted) == 10
    assert all(after > before + 10 for before, after in zip(base, adapted, strict=True)), (base, adapted)
    done = trained.done("dpo")
    assert done.base_eval_loss == pytest.approx(math.log(2))
    assert done.eval_loss is not None and done.eval_loss < math.log(2)


def test_packing_fills_sequences_and_exceeds_none(trained: Trained) -> None:
    lengths = trained.found["packed lengths"]
    rows = trained.found["row lengths"]
    assert sum(lengths) == sum(rows)
    assert max(lengths) <= SHORT
    assert len(lengths) < len(rows)
    assert sum(length > SHORT - min(rows) for length in lengths) >= len(lengths) - 1  # none but the last has room left


def test_packed_rows_do_not_see_one_another(trained: Trained) -> None:
    assert list(losses(trained.told["packed"])) == [1, 2, 3, 4, 5]
    assert losses(trained.told["packed"]) == pytest.approx(losses(trained.told["unpacked"]), rel=1e-4)
    assert trained.done("packed").tokens == trained.done("unpacked").tokens


@pytest.mark.parametrize("kind", ["lora", "dora", "qlora"])
def test_a_merged_model_answers_as_base_and_adapter_do(trained: Trained, kind: str) -> None:
    found = trained.found[kind]
    assert found["weights of its own kind"]
    assert found["merged from adapted"] < 1e-3 < 1 < found["base from adapted"]
    assert found["tokenizer"] and found["chat template"]


def test_a_base_in_4_bits_is_a_little_different_and_is_learnt_on_as_well(trained: Trained) -> None:
    whole, narrow = (list(losses(trained.told[name]).values()) for name in ("lora", "qlora"))
    assert whole[0] != pytest.approx(narrow[0], rel=1e-4)
    assert whole[0] == pytest.approx(narrow[0], rel=0.1)
    assert narrow[-1] < 0.1 * narrow[0]


def test_early_stopping_ends_a_run_says_so_and_keeps_the_best(trained: Trained) -> None:
    measured = {event.step: event.eval_loss for event in trained.told["early"] if isinstance(event, EvalEvent)}
    best = min(measured, key=lambda step: measured[step])
    done = trained.done("early")
    assert done.stopped_early
    assert done.steps == best + 2 * 4 < 200
    assert done.eval_loss == pytest.approx(measured[best], rel=1e-3)
    assert not trained.done("lora").stopped_early
