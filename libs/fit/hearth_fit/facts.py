"""What a model's config.json and the headers of its weights say of its size."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth_fit.safetensors import BadHeader, Tensor, read_file

_NOT_ADAPTED = ("embed", "lm_head", "norm", "wte", "wpe", "classifier", "score")
"""Parts of the names of two-dimensional weights that LoRA leaves alone: embeddings, the output layer, norms."""


class FactsUnknown(Exception):
    """The files do not say how large the model is; the message names what is missing."""


@dataclass(frozen=True)
class Facts:
    """A model's dimensions, in the field's usual names."""

    tensors: tuple[Tensor, ...]
    architectures: tuple[str, ...]
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    kv_heads: int
    head_dim: int
    context: int | None  # tokens; None where the config names no limit
    full_layers: int  # layers whose cache grows with the context; others keep `window` tokens
    window: int
    latent_kv: int  # numbers per token and layer where keys and values are kept compressed (MLA), else 0
    quantized: bool

    @property
    def parameters(self) -> int:
        """Numbers in all weights. Quantized weights are packed, several numbers in one."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def weights_bytes(self) -> int:
        """The weights as they lie on disk."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def linear(self) -> tuple[Tensor, ...]:
        """The weights of the linear layers that an adapter can change."""
        return tuple(
            tensor
            for tensor in self.tensors
            if len(tensor.shape) == 2 and not any(part in tensor.name for part in _NOT_ADAPTED)
        )

    def weights_as(self, width: float | None) -> int:
        """The weights with `width` bytes a number; None, and for quantized ones always: as they are."""
        return self.weights_bytes if width is None or self.quantized else int(self.parameters * width)


def read_facts(folder: Path) -> Facts:
    """The facts of a model on disk. Raises FactsUnknown."""
    config = read_config(folder)
    tensors: list[Tensor] = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensors += read_file(path)
        except (BadHeader, OSError) as error:
            raise FactsUnknown(f"{path.name} cannot be read: {error}") from error
    if not tensors:
        raise FactsUnknown("it has no *.safetensors weights")
    return facts_of(config, tuple(tensors))


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json. Raises FactsUnknown."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FactsUnknown(f"its config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise FactsUnknown("its config.json is not an object")
    return config


def facts_of(config: dict[str, Any], tensors: tuple[Tensor, ...]) -> Facts:
    """The facts, of a config and the weights' headers. Raises FactsUnknown."""
    text = config.get("text_config") or config  # a multimodal model keeps its language model's config deeper
    try:
        layers = int(text["num_hidden_layers"])
        heads = int(text["num_attention_heads"])
        hidden = int(text["hidden_size"])
        kinds = text.get("layer_types") or ["full_attention"] * layers
        return Facts(
            tensors=tensors,
            architectures=tuple(config.get("architectures") or ()),
            layers=layers,
            hidden=hidden,
            intermediate=int(text.get("intermediate_size") or 4 * hidden),
            vocabulary=int(text["vocab_size"]),
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or hidden // heads),
            context=context_of(config),
            full_layers=sum(kind == "full_attention" for kind in kinds),
            window=int(text.get("sliding_window") or 0),
            latent_kv=int(text.get("kv_lora_rank") or 0) and int(text["kv_lora_rank"]) + int(text["qk_rope_head_dim"]),
            quantized=bool(config.get("quantization_config")),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FactsUnknown(f"its config.json does not say how large it is: {error!r}") from error


def context_of(config: dict[str, Any]) -> int | None:
    """The most tokens that a model takes, where its config says."""
    found = (config.get("text_config") or config).get("max_position_embeddings")
    return found if isinstance(found, int) and found > 0 else None
