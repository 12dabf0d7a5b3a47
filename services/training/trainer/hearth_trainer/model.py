"""The base model, its tokenizer, and the adapter put onto it."""

from pathlib import Path
from typing import Any

import torch
from hearth_contracts.finetune import RunSpec
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.precision import has_avx512, training_width
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig, set_seed

from hearth_trainer.refusal import Refused
from hearth_trainer.sharding import load_base


def load_tokenizer(spec: RunSpec) -> Any:
    """The base's tokenizer. Raises Refused when it has no chat template."""
    tokenizer = AutoTokenizer.from_pretrained(spec.model_path, local_files_only=True, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise Refused(
            f"{spec.model_id} has no chat template, so conversations cannot be shown to it: choose an instruct model, "
            "or add a chat_template.jinja to the model's folder"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_base(spec: RunSpec) -> int:
    """How many tokens the base has embeddings for. Raises Refused for one that cannot be trained on as asked."""
    config = AutoConfig.from_pretrained(spec.model_path, local_files_only=True, trust_remote_code=False)
    if getattr(config, "quantization_config", None) is not None:
        raise Refused(f"{spec.model_id} is quantized; train on the model it was made from")
    return int(config.get_text_config().vocab_size)


def load_adapted(spec: RunSpec) -> Any:
    """The base with a fresh adapter, whose first weights the seed determines. Raises Refused."""
    settings, dtype = spec.hyperparameters, _dtype(spec)
    quantization = _in_4_bits(dtype) if settings.load_in_4bit else None
    model = load_base(spec, dtype=dtype, quantization_config=quantization)
    if quantization is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # as the trainer is told
    set_seed(settings.seed)  # the adapter's first weights are drawn before the trainer seeds anything
    try:
        return get_peft_model(model, _lora(settings))
    except ValueError as error:
        raise Refused(f"target_modules do not fit {spec.model_id}: {error}") from error


def _dtype(spec: RunSpec) -> torch.dtype:
    weights = sum(path.stat().st_size for path in Path(spec.model_path).glob("*.safetensors"))
    width = training_width(weights, gpu=torch.cuda.is_available(), avx512=has_avx512())
    return torch.bfloat16 if width == 2 else torch.float32


def _in_4_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4, its constants quantized again, calculated with in `dtype` (Dettmers et al. 2023, QLoRA, section 3)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _lora(settings: Hyperparameters) -> LoraConfig:
    targets = settings.target_modules
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_dora=settings.use_dora,
        task_type="CAUSAL_LM",
    )
