"""The settings of a training that its user left out, chosen from the model and the data."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth_contracts.hyperparameters import Hyperparameters

ENOUGH_EXAMPLES, MOST_EXAMPLES, MOST_EPOCHS = 100, 25_000, 25
"""OpenAI's published rule for `n_epochs: auto`: three passes, more over a small set, fewer over a large one."""

LARGE_MODEL_BYTES = 30_000_000_000
"""Weights of some 13 billion parameters in 16 bits: from here on the QLoRA paper halves the learning rate."""

LEARNING_RATES = {"sft": 2e-4, "dpo": 1e-5}
"""For adapters, which take ten times what the whole model does: TRL's defaults are 2e-5 and 1e-6."""


@dataclass(frozen=True)
class Facts:
    """What the choice depends on."""

    rows: int
    model_bytes: int
    context: int | None  # the most tokens that the model takes, where its config says


def settle(asked: Hyperparameters, facts: Facts) -> Hyperparameters:
    """`asked` with every setting that was not given chosen."""
    chosen: dict[str, Any] = {
        "n_epochs": _epochs(facts.rows),
        "batch_size": _batch(facts.rows, asked.gradient_accumulation_steps or 1),
        "learning_rate": _learning_rate(asked, facts.model_bytes),
        "lora_alpha": min(1024, 2 * asked.lora_rank),
        "max_length": min(asked.max_length, facts.context or asked.max_length),
    }
    wanted = {name: value for name, value in chosen.items() if name not in asked.model_fields_set}
    settled = Hyperparameters.model_validate(asked.model_dump() | wanted)
    if not settled.validates or settled.eval_steps is not None:
        return settled
    steps = settled.steps(facts.rows - settled.kept_back(facts.rows))
    return settled.model_copy(update={"eval_steps": max(1, steps // 10)})


def is_quantized(config: dict[str, Any]) -> bool:
    """Whether a model's weights are stored in fewer bits than they can be trained in."""
    return bool(config.get("quantization_config"))


def read_config(snapshot: Path) -> dict[str, Any]:
    """A model's config.json; empty where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((snapshot / "config.json").read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}


def _epochs(rows: int) -> int:
    if rows * 3 < ENOUGH_EXAMPLES:
        return min(MOST_EPOCHS, ENOUGH_EXAMPLES // max(rows, 1))
    return max(1, MOST_EXAMPLES // rows) if rows * 3 > MOST_EXAMPLES else 3


def _batch(rows: int, passes: int) -> int:
    """Half a percent of the rows, as a power of two from 8 to 32 that can be split into so many passes."""
    size = 8
    while size < 32 and size * 2 <= rows // 200:
        size *= 2
    return -(-size // passes) * passes


def _learning_rate(asked: Hyperparameters, model_bytes: int) -> float:
    usual = LEARNING_RATES[asked.method]
    return usual / (2 if model_bytes > LARGE_MODEL_BYTES else 1) * asked.learning_rate_multiplier
