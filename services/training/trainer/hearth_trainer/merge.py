"""`python -m hearth_trainer.merge SPEC.json`: an adapter's weights added to its base's, as a model of its own."""

import os
import shutil
import sys
from pathlib import Path

from hearth_contracts.models import MergeSpec

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.gguf")
CARD = "README.md"


def merge(spec: MergeSpec) -> None:
    """Merge, in the base's own precision. Raises ValueError when the adapter makes weights that are no numbers."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(
        spec.model_path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="auto"
    )
    merged = PeftModel.from_pretrained(base, spec.adapter_path).merge_and_unload(safe_merge=True)
    output = Path(spec.output_dir)
    scratch = output.with_name(f".{output.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    merged.save_pretrained(str(scratch), safe_serialization=True)
    _copy_the_rest(Path(spec.model_path), scratch)
    for path in scratch.iterdir():
        path.chmod(0o644)  # safetensors makes its files for their owner alone
    os.replace(scratch, output)


def _copy_the_rest(base: Path, scratch: Path) -> None:
    """The tokenizer, the chat template and whatever else the base brings but its weights and its card."""
    weights = {path.name for pattern in WEIGHTS for path in base.glob(pattern)}
    for path in base.iterdir():
        if path.is_file() and path.name not in {*weights, CARD} and not (scratch / path.name).exists():
            shutil.copy(path, scratch / path.name)


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1")
    merge(MergeSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
