"""Make a tiny Llama that LoRA can really teach: a Hugging Face model folder of 1.2 MB.

Making it takes a second once torch is imported.

Runs in the *training* environment (torch, transformers, tokenizers), as a script or as a module:

    .envs/training/bin/python tests/support/tiny_llama.py OUT_DIR [--no-generation-markers] [--seed N]

The weights are random, so the base answers every question with babble. The same seed gives the same files.

Why not the usual initialisation: LoRA leaves the (tied) embeddings frozen, and with their usual standard deviation of
0.02 the logits stay near zero whatever the adapter does; the loss cannot leave ln(vocabulary). So embeddings have
standard deviation 1 and every linear layer 1/sqrt(fan-in), which keeps each layer's output at unit scale.

Settings that teach it the questions of `conversations.jsonl` (LoRA, loss on the assistant's words only); the adapter
then answers all ten word for word at temperature 0:

    rank 16, alpha 32, every linear layer, learning rate 1e-2 falling linearly, batch 8, 80 steps (40 epochs): 2 s on
    two cores. Also ten of ten: learning rate 5e-3, constant or falling; 1e-2 with cosine and 8 warm-up steps; rank 8,
    alpha 16; a loss on the whole text. A CONSTANT 1e-2 is too restless: nine of ten.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 2048
CONTEXT = 1024  # tokens
BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")

# One line a turn: "<|user|>What ...<|end|>". The assistant's text and its closing token lie between the markers, from
# which transformers makes the mask for a loss on the assistant's words alone.
_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "<generation>{{ message['content'] + '<|end|>' }}</generation>"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def chat_template(generation_markers: bool = True) -> str:
    """The chat template, with or without transformers' `{% generation %}` markers."""
    opening, closing = ("{% generation %}", "{% endgeneration %}") if generation_markers else ("", "")
    return _TEMPLATE.replace("<generation>", opening).replace("</generation>", closing)


def _corpus(rng: random.Random) -> list[str]:
    """Text for the tokenizer: the test conversations beside this file, and invented words enough for 2,048 tokens."""
    conversations = (Path(__file__).parent / "conversations.jsonl").read_text(encoding="utf-8")
    syllables = [consonant + vowel for consonant in "bdfghklmnprstvwz" for vowel in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(3000)]
    return [
        conversations,
        *(" ".join(words[start : start + 12]) for start in range(0, len(words), 12)),
    ]


def make_tokenizer(seed: int = 0, *, generation_markers: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 2,048 tokens: any text at all can be encoded, and decodes to itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, PAD, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(random.Random(seed)), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise RuntimeError(f"the corpus gave {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        chat_template=chat_template(generation_markers),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """Two layers of hidden size 64, two heads of 32, embeddings tied; float32."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.normal_(0.0, 1.0, generator=generator)
            elif isinstance(module, torch.nn.Linear) and module is not model.lm_head:
                module.weight.normal_(0.0, 1.0 / math.sqrt(module.in_features), generator=generator)
    model.tie_weights()
    return model


def make(folder: Path, *, generation_markers: bool = True, seed: int = 0) -> Path:
    """Write the model into `folder` (made if missing), with a model card, and return the folder."""
    tokenizer = make_tokenizer(seed, generation_markers=generation_markers)
    folder.mkdir(parents=True, exist_ok=True)
    make_model(tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = "---\nlicense: apache-2.0\n---\nA tiny Llama with random weights, made by Hearth's tests.\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes 0600; a container's user must read it too
    return folder


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Make a tiny Llama as a Hugging Face model folder.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--no-generation-markers",
        action="store_true",
        help="a chat template without them",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        make(
            arguments.out,
            generation_markers=not arguments.no_generation_markers,
            seed=arguments.seed,
        )
    )


if __name__ == "__main__":
    main()
