"""Runs each RUN.json that it is given, one after the other, then looks at what came of them (see test_methods.py).

In the training environment. Events go to RUN.events beside each file, what is found to found.json.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

import torch
from hearth_contracts.finetune import RunSpec
from hearth_contracts.models import MergeSpec
from hearth_trainer.conversations import read_rows
from hearth_trainer.events import EventStream
from hearth_trainer.masking import encode_row
from hearth_trainer.merge import merge
from hearth_trainer.model import load_tokenizer
from hearth_trainer.preferences import Pair, encode_pair
from hearth_trainer.rows import encode_split
from hearth_trainer.run import run
from hearth_trainer.trainers import as_dataset
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

VOCABULARY = 2048


def train(path: Path) -> RunSpec:
    """One run, as the trainer's own process does it."""
    spec = RunSpec.model_validate_json(path.read_text())
    events = os.open(path.with_suffix(".events"), os.O_WRONLY | os.O_CREAT)
    os.dup2(events, sys.stdout.fileno())
    code = run(spec, EventStream())
    assert code == 0, code
    return spec


def load(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def adapted(spec: RunSpec) -> Any:
    return PeftModel.from_pretrained(load(spec.model_path), spec.output_dir).eval()


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Of the answer after the prompt."""
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        words = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(words.gather(1, torch.tensor(answer)[:, None]).sum())


def margins(spec: RunSpec) -> dict[str, list[float]]:
    """By how much the chosen answer of each pair is likelier than the rejected one."""
    tokenizer = load_tokenizer(spec)
    pairs: list[Pair] = [encode_pair(tokenizer, row) for row in read_rows(Path(spec.data_path), spec.data_format)]

    def of(model: Any) -> list[float]:
        return [
            log_probability(model, pair.prompt, pair.chosen) - log_probability(model, pair.prompt, pair.rejected)
            for pair in pairs
        ]

    return {"base": of(load(spec.model_path)), "adapted": of(adapted(spec))}


def merged(spec: RunSpec) -> dict[str, Any]:
    """How far the merged model's answers are from those of base and adapter: the greatest difference of a logit."""
    output = Path(spec.work_dir) / "merged"
    merge(MergeSpec(model_path=spec.model_path, adapter_path=spec.output_dir, output_dir=str(output)))
    tokenizer = AutoTokenizer.from_pretrained(output)
    row = next(iter(read_rows(Path(spec.data_path), spec.data_format)))
    ids = torch.tensor([encode_row(tokenizer, row).input_ids])
    with torch.no_grad():
        base, both, one = (model(ids).logits for model in (load(spec.model_path), adapted(spec), load(str(output))))
    with safe_open(Path(spec.output_dir) / "adapter_model.safetensors", "pt") as weights:
        has_magnitudes = any("lora_magnitude_vector" in name for name in weights.keys())  # noqa: SIM118
    return {
        "merged from adapted": float((one - both).abs().max()),
        "base from adapted": float((base - both).abs().max()),
        "weights of its own kind": has_magnitudes is spec.hyperparameters.use_dora,
        "tokenizer": (output / "tokenizer.json").is_file(),
        "chat template": tokenizer.chat_template == load_tokenizer(spec).chat_template,
    }


def main(paths: list[Path]) -> None:
    specs = {path.stem: train(path) for path in paths}
    rows = encode_split(load_tokenizer(specs["packed"]), specs["packed"], VOCABULARY).train
    found = {
        "margins": margins(specs["dpo"]),
        "row lengths": [len(row.input_ids) for row in rows],
        "packed lengths": [len(row["input_ids"]) for row in as_dataset(specs["packed"], rows)],
        **{kind: merged(specs[kind]) for kind in ("lora", "dora", "qlora")},
    }
    (paths[0].parent / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
