"""Make tiny random BERTs for the embedding engine's tests, in about a second: folders that infinity serves.

Runs in the *infinity* environment (torch, transformers, sentence-transformers), as a script or as a module:

    .envs/infinity/bin/python tests/support/tiny_bert.py OUT_DIR [--cross-encoder] [--seed N]

The plain one gives embeddings of 32 numbers, mean-pooled and of length 1; with `--cross-encoder` it is a reranker,
whose one logit scores a pair. The weights are random, so the numbers mean nothing, but the same text always gives the
same ones. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
import string
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

WIDTH = 32  # numbers in an embedding
CONTEXT = 128  # tokens
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _vocabulary() -> list[str]:
    """Word pieces enough to spell anything in ASCII; what is not in it becomes [UNK]."""
    letters = string.ascii_lowercase + string.digits
    return [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *string.punctuation]


def make(folder: Path, *, cross_encoder: bool = False, seed: int = 0) -> Path:
    """Write the model into `folder` (made if missing) and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = folder / "vocab.txt"
    words.write_text("\n".join(_vocabulary()) + "\n", encoding="utf-8")
    BertTokenizerFast(str(words), model_max_length=CONTEXT).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=CONTEXT,
        num_labels=1 if cross_encoder else 2,
    )
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config) if cross_encoder else BertModel(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # wider than BERT's usual 0.02, or all texts would look alike
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    if not cross_encoder:
        _describe_pooling(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors writes 0600; a container's user must read it too
    return folder


def _describe_pooling(folder: Path) -> None:
    """The files that make a BERT a sentence-transformers model: transform, mean-pool, normalise."""
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    contents: dict[str, object] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": CONTEXT, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True},
    }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Make a tiny BERT as a sentence-transformers model folder.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--cross-encoder", action="store_true", help="a reranker in place of an embedding model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(make(arguments.out, cross_encoder=arguments.cross_encoder, seed=arguments.seed))


if __name__ == "__main__":
    main()
