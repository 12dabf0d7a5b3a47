"""Which model the demo uses: a small instruct model where a hub is reached, else Gemma 3 270M from Python packages."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from hearth_local.models import GEMMA, assemble_gemma

HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_SECONDS = 5.0


@dataclass(frozen=True)
class DemoModel:
    """The base model, and how to train it on the demo's conversations."""

    model_id: str
    folder: str | None  # under imports/; None: from the hub
    license: str
    why: str
    hyperparameters: dict[str, Any]


def choose_model(home: Path, console: Console) -> DemoModel:
    """The model; Gemma is put together first where it is needed, which takes about a minute."""
    if hub_is_reached():
        return DemoModel(
            model_id=HUB_MODEL,
            folder=None,
            license="Apache-2.0",
            why="a small instruct model, downloaded from the hub",
            hyperparameters={"n_epochs": 6, "batch_size": 8, "learning_rate": 2e-3, "lora_rank": 8, "lora_alpha": 16},
        )
    columns = (TextColumn("{task.description}"), BarColumn(30), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("putting Gemma 3 270M together", total=1.0)
        assemble_gemma(home, lambda share, words: progress.update(task, completed=share, description=words))
    return DemoModel(
        model_id=f"google/{GEMMA}",
        folder=GEMMA,
        license=f"Gemma Terms of Use; its text: {home / 'imports' / GEMMA / 'LICENSE.html'}",
        why="no hub is reached, so it comes from Python packages (the base model, 4-bit weights made bfloat16)",
        hyperparameters={"n_epochs": 4, "batch_size": 8, "learning_rate": 2e-3, "lora_rank": 8, "lora_alpha": 16},
    )


def hub_is_reached() -> bool:
    """Whether the hub (HF_ENDPOINT) answers for the demo's model."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    try:
        HfApi().model_info(HUB_MODEL, timeout=HUB_SECONDS)
    except Exception:  # no network, no such host, a proxy's page: all mean the same here
        return False
    return True
