"""Which checkpoint to go on from: the newest that is whole. A kill may leave an empty or half-written one."""

import json
import shutil
from pathlib import Path

REQUIRED = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def newest_valid(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None. Broken ones newer than it are removed, so that nothing picks them up."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    for path in found:
        if is_whole(path):
            return path
        shutil.rmtree(path)
    return None


def is_whole(path: Path) -> bool:
    """Whether every file that resuming reads is there, the state last of all, and can be read."""
    if any(not (path / name).is_file() or (path / name).stat().st_size == 0 for name in REQUIRED):
        return False
    try:
        step = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    except (ValueError, TypeError, KeyError):
        return False
    return path.name == f"checkpoint-{step}" and _is_safetensors(path / "adapter_model.safetensors")


def _is_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says (https://github.com/huggingface/safetensors#format).

    A power cut may leave a file of the right length that is all zeros: then its header is no JSON.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)
