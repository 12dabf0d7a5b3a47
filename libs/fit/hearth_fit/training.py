"""The memory and disk that training an adapter takes. Every estimate is in bytes."""

import math
from dataclasses import dataclass
from typing import Literal

from hearth_contracts.fit import Need, Resource
from hearth_contracts.precision import training_width

from hearth_fit.facts import Facts
from hearth_fit.machine import Machine, Room
from hearth_fit.weigh import GIB, weigh

TRAINER_PROCESS_BYTES = GIB
"""torch, transformers, TRL and PEFT before any weights: measured 0.8 GiB."""

_ADAPTER_WIDTH = 4  # PEFT keeps what is trained in float32
_OPTIMIZER_WIDTH = 8  # AdamW: two float32 moments a trained number (Loshchilov & Hutter 2019, algorithm 2)
_QLORA_WIDTH = 4.127 / 8  # NF4 with its constants quantized again (Dettmers et al. 2023, QLoRA, section 3)
_LAYER_NUMBERS = 17
"""Numbers kept for the backward pass, a token, a layer and a hidden dimension: 34 bytes in 16 bits (Korthikanti et al.
2022, Reducing Activation Recomputation, equation 1), less its attention scores, which fused attention never stores."""

_LAYERS_GATHERED = 2
"""Of a sharded base a process holds whole the layer that it calculates with, and the next, which is on its way (Zhao et
al. 2023, PyTorch FSDP, section 3.3.2)."""

_LOGITS_WIDTH = 12  # a token and a word of the vocabulary: logits in float32, their gradient, and the softmax between
_CHECKPOINTS_KEPT = 2
_TOKEN_BYTES = 3  # of a row as JSON: four in English text, fewer in others
_SKEW = 4  # how much longer the longest row of a batch is than the mean


@dataclass(frozen=True)
class Training:
    """What is to be trained, and how."""

    facts: Facts
    device: Literal["cpu", "cuda"]
    avx512: bool  # whether the CPU has it
    rank: int
    target_modules: tuple[str, ...] | None  # ends of layers' names; None: every linear layer
    rows_at_once: int  # that go through the model together
    max_length: int  # tokens
    dataset_bytes: int
    dataset_rows: int
    packing: bool = False
    load_in_4bit: bool = False
    shards: int = 1  # processes that hold the base together

    @property
    def width(self) -> float:
        """Bytes a number of the base, as the trainer loads it, or calculates with it where it is in 4 bits."""
        return float(training_width(self.facts.weights_bytes, gpu=self.device == "cuda", avx512=self.avx512))

    @property
    def weights_bytes(self) -> int:
        """The base. In 4 bits are its linear layers alone; the rest is widened, for the sake of the gradients."""
        if not self.load_in_4bit:
            return self.facts.weights_as(self.width)
        narrow = sum(math.prod(tensor.shape) for tensor in self.facts.linear)
        return int(narrow * _QLORA_WIDTH + (self.facts.parameters - narrow) * 4)

    def gathered_bytes(self) -> int:
        """What one process has whole of a sharded base at a time: layers, and the vocabulary's side of the model."""
        if self.shards == 1:
            return 0
        layers = sum(math.prod(tensor.shape) for tensor in self.facts.linear) / self.facts.layers * _LAYERS_GATHERED
        return int((layers + self.facts.vocabulary * self.facts.hidden) * self.width)

    @property
    def tokens(self) -> int:
        """The length of a batch: its longest row, which is not known before the rows are tokenized."""
        if self.packing:
            return self.max_length
        mean = self.dataset_bytes / max(1, self.dataset_rows) / _TOKEN_BYTES
        return min(self.max_length, max(8, int(mean * _SKEW)))

    def trained(self) -> int:
        """Numbers in the adapter: rank x (in + out) a layer (Hu et al. 2021, LoRA, section 4.1)."""
        layers = self.facts.linear
        if self.target_modules is not None:
            ends = tuple(f"{name}.weight" for name in self.target_modules)
            layers = tuple(tensor for tensor in layers if tensor.name.endswith(ends))
        return self.rank * sum(sum(tensor.shape) for tensor in layers)

    def activation_bytes(self) -> int:
        """What the forward pass keeps for the backward one, and the logits.

        On a GPU the trainer checkpoints gradients: it keeps each layer's input and one whole layer at a time (Chen et
        al. 2016, Training Deep Nets with Sublinear Memory Cost).
        """
        facts, tokens = self.facts, self.rows_at_once * self.tokens
        width = self.width
        layer = tokens * facts.hidden * _LAYER_NUMBERS * width
        kept = tokens * facts.hidden * width * facts.layers + layer if self.device == "cuda" else layer * facts.layers
        return int(kept + tokens * facts.vocabulary * _LOGITS_WIDTH)


def training_needs(training: Training, machine: Machine, freed: Machine, disk: Room) -> list[Need]:
    """What training needs; `freed` is given back before it begins, by a training that runs now."""
    trained = training.trained()
    parts = {
        "weights": training.weights_bytes // training.shards,
        "gathered": training.gathered_bytes(),
        "adapter_and_gradients": 2 * _ADAPTER_WIDTH * trained,
        "optimizer": _OPTIMIZER_WIDTH * trained,
        "activations": training.activation_bytes(),
    }
    remedy = "use a smaller batch_size, max_length or model, or undeploy something"
    if training.device == "cuda":
        card = machine.gpus[0] if machine.gpus else Room(0, 0)
        gained = freed.gpus[0].free if freed.gpus else 0
        memory = weigh(Resource.GPU_MEMORY, {"context": GIB, **parts}, card.plus(gained), remedy)
    else:
        room = machine.memory.plus(freed.memory.free)
        memory = weigh(Resource.MEMORY, {"processes": TRAINER_PROCESS_BYTES, **parts}, room, remedy)
    kept = {
        "rows": training.dataset_bytes,
        "checkpoints": _CHECKPOINTS_KEPT * (_ADAPTER_WIDTH + _OPTIMIZER_WIDTH) * trained,
        "adapter": _ADAPTER_WIDTH * trained,
    }
    return [memory, weigh(Resource.DISK, kept, disk, "delete models or old runs, or set HEARTH_HOME to a larger disk")]
