"""The adapter's card: a README.md in the form that model hubs read, so that it can be told apart anywhere."""

import json
from collections.abc import Mapping

from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.finetune import FinetuneResult

EARLY = "It ended early, since eval_loss was no better any more, and is as it was when that was lowest."


def card(name: str, manifest: AdapterManifest, result: FinetuneResult) -> str:
    """What it is, of what, how it was made and how it came out."""
    header = [
        "---",
        f"base_model: {json.dumps(manifest.base_model_id)}",
        f"license: {json.dumps(manifest.license or 'unknown')}",
        "library_name: peft",
        "tags: [lora, hearth]",
        "---",
    ]
    facts = {
        "Base": f"{manifest.base_model_id} at revision {manifest.base_revision}",
        "Licence of the base": manifest.license or "its card states none",
        "Dataset": f"{manifest.dataset_id}, SHA-256 {manifest.dataset_sha256}",
        "Fine-tune": manifest.finetune_id,
        "Made": manifest.created_at.isoformat(timespec="seconds"),
    }
    numbers = result.model_dump(exclude={"event", "stopped_early"}, exclude_none=True)
    early = [EARLY, ""] if result.stopped_early else []
    return "\n".join(
        [
            *header,
            f"# {name.splitlines()[0]}",
            "",
            f"A LoRA adapter, `{manifest.adapter_id}`, trained by Hearth.",
            "",
            *_table("", facts),
            *_table("Result", {key.replace("_", " "): f"{value:.6g}" for key, value in numbers.items()}),
            *early,
            *_table("Settings", manifest.training["hyperparameters"]),
        ]
    )


def _table(title: str, rows: Mapping[str, object]) -> list[str]:
    lines = [f"| {key} | {str(value).replace('|', '&#124;')} |" for key, value in rows.items()]
    return [*([f"## {title}", ""] if title else []), "| | |", "| --- | --- |", *lines, ""]
