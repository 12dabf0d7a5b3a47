"""What a model is for, as its files say, and so which engine serves it and under which name."""

import json
from dataclasses import dataclass
from pathlib import Path

from hearth_contracts.deploy import Engine, Task
from hearth_jobs.deployments import EMBEDDING_DEPLOYMENT, LLM_DEPLOYMENT, RERANK_DEPLOYMENT

from hearth_management.config import ManagementSettings

GENERATIVE = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
ENCODERS = ("Model", "ForMaskedLM")

ENGINES = {Task.GENERATE: Engine.VLLM, Task.EMBED: Engine.INFINITY, Task.RERANK: Engine.INFINITY}

DOES = {
    Task.GENERATE: "generates text",
    Task.EMBED: "embeds text",
    Task.RERANK: "ranks documents",
    None: "is of a kind that no engine of Hearth serves",
}


@dataclass(frozen=True)
class Slot:
    """A deployment that there can be: one of each task."""

    name: str
    task: Task
    served_name: str


def slots(settings: ManagementSettings) -> dict[str, Slot]:
    """All of them, by name. The reference's one is `default`."""
    found = (
        Slot(LLM_DEPLOYMENT, Task.GENERATE, settings.llm_name),
        Slot(EMBEDDING_DEPLOYMENT, Task.EMBED, settings.embedding_name),
        Slot(RERANK_DEPLOYMENT, Task.RERANK, settings.rerank_name),
    )
    return {slot.name: slot for slot in found}


def task_of(folder: Path) -> Task | None:
    """What the model in a folder is for; None for what none of the engines serves.

    A sentence-transformers model (modules.json) embeds, whatever it was before; a classifier with one label is a
    cross-encoder, which is how infinity tells them apart too.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or []]
        labels = len(config.get("id2label") or {"0": ""})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    if (folder / "modules.json").is_file():
        return Task.EMBED
    if any("ForSequenceClassification" in name for name in architectures):
        return Task.RERANK if labels < 2 else None
    if any(name.endswith(GENERATIVE) for name in architectures):
        return Task.GENERATE
    return Task.EMBED if any(name.endswith(ENCODERS) for name in architectures) else None
