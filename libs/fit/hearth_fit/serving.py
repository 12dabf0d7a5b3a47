"""The memory that serving a model takes. Every estimate is in bytes; none needs the model loaded."""

from dataclasses import dataclass

from hearth_contracts.engine import EngineSettings
from hearth_contracts.fit import Need, Resource

from hearth_fit.engine import EngineDefaults
from hearth_fit.facts import Facts
from hearth_fit.machine import Machine, Room
from hearth_fit.weigh import GIB, weigh

VLLM_PROCESSES_BYTES = 3 * GIB
"""What vLLM's three processes take on a CPU before any weights: measured 2.9 GiB."""

INFINITY_PROCESS_BYTES = GIB
"""What infinity's takes before any weights: measured 0.6 GiB."""

GPU_CONTEXT_BYTES = GIB
"""CUDA's context, its libraries' workspaces and what vLLM captures as graphs: 0.5 to 1 GiB on recent cards."""

GPU_SHARE = 0.92
"""vLLM's default of gpu_memory_utilization."""

_BATCHED_TOKENS, _SEQUENCES = 2048, 256
"""vLLM's defaults for a server; larger on cards of 70 GB and more, where the difference does not matter."""

_WIDTH = {"float": 4.0, "float32": 4.0, "half": 2.0, "float16": 2.0, "bfloat16": 2.0, "auto": 2.0}
"""Bytes a number. `auto` is 16 bits for every model: vLLM takes float32 ones down."""


@dataclass(frozen=True)
class Serving:
    """What an LLM's engine is asked to hold."""

    facts: Facts
    settings: EngineSettings  # settled: nothing that matters here is left out

    @property
    def width(self) -> float:
        """Bytes a number in weights and activations."""
        return _WIDTH[self.settings.dtype or "auto"]

    def cache_bytes(self, tokens: int) -> int:
        """The key-value cache of one sequence of so many tokens.

        A key and a value a layer, each kv_heads x head_dim numbers (Kwon et al. 2023, PagedAttention, section 3);
        sliding layers keep their window alone; MLA keeps one compressed vector (DeepSeek-V2, 2024, section 2.1).
        """
        facts = self.facts
        asked = self.settings.kv_cache_dtype or "auto"
        width = 1.0 if asked.startswith("fp8") else self.width if asked == "auto" else _WIDTH[asked]
        if facts.latent_kv:
            return int(facts.layers * tokens * facts.latent_kv * width)
        sliding = (facts.layers - facts.full_layers) * min(tokens, facts.window or tokens)
        return int(2 * (facts.full_layers * tokens + sliding) * facts.kv_heads * facts.head_dim * width)

    def adapter_bytes(self) -> int:
        """The slots for adapters, which vLLM fills in advance.

        rank x (in + out) numbers a linear layer (Hu et al. 2021, LoRA, section 4.1), for max_loras of max_lora_rank.
        """
        slots = (self.settings.max_loras or 1) * (self.settings.max_lora_rank or 1)
        return int(slots * sum(sum(tensor.shape) for tensor in self.facts.linear) * self.width)

    def activation_bytes(self) -> int:
        """What one step holds beside the weights, as vLLM finds it in its profiling run.

        The widest moment of a layer (two halves of the gated MLP beside the residual stream, Shazeer 2020, GLU
        variants) for every token of the batch, and float32 logits for every sequence of it.
        """
        facts, tokens = self.facts, self.settings.max_num_batched_tokens or _BATCHED_TOKENS
        layer = tokens * (2 * facts.intermediate + 4 * facts.hidden) * self.width
        return int(layer + min(tokens, self.settings.max_num_seqs or _SEQUENCES) * facts.vocabulary * 4)

    def weight_bytes(self) -> int:
        """The weights in memory: as many numbers as on disk, in the engine's type; packed ones stay packed."""
        return self.facts.weights_as(self.width)


def vllm_needs(serving: Serving, defaults: EngineDefaults, machine: Machine, freed: Machine) -> list[Need]:
    """What vLLM needs here; `freed` is given back before it starts, by the version that this one replaces."""
    if defaults.engine_device == "cuda":
        return _gpu_needs(serving, machine, freed)
    return _cpu_needs(serving, defaults, machine, freed)


def cpu_parts(serving: Serving, cache_bytes: int) -> dict[str, int]:
    """What vLLM takes on a CPU, with so much memory set aside for its key-value cache."""
    return {
        "processes": VLLM_PROCESSES_BYTES,
        "weights": serving.weight_bytes(),
        "kv_cache": cache_bytes,
        "adapters": serving.adapter_bytes(),
        "activations": serving.activation_bytes(),
    }


def _cpu_needs(serving: Serving, defaults: EngineDefaults, machine: Machine, freed: Machine) -> list[Need]:
    cache = defaults.cpu_kv_cache_gib * GIB
    room = machine.memory.plus(freed.memory.free)
    parts = cpu_parts(serving, cache)
    if serving.settings.ranks > 1:
        remedy = (
            "an engine on this machine's CPU is in one piece: leave out engine.tensor_parallel_size and "
            "pipeline_parallel_size, or let engines have a Ray cluster's machines (HEARTH_ENGINE_RAY_ADDRESS)"
        )
        return [weigh(Resource.MEMORY, parts, Room(0, 0), remedy)]
    needs = [weigh(Resource.MEMORY, parts, room, "choose a smaller model, or undeploy or interrupt something else")]
    one = serving.cache_bytes(serving.settings.max_model_len or 0)
    if one > cache:  # vLLM refuses to start
        remedy = "set engine.max_model_len lower, or HEARTH_CPU_KV_CACHE_GIB higher"
        needs.append(weigh(Resource.MEMORY, {"kv_cache_of_one_request": one}, Room(cache, cache), remedy))
    return needs


def _gpu_parts(serving: Serving) -> dict[str, int]:
    """The least that each of a model's GPUs holds: its part of what is shared out, and what each has whole."""
    ranks = serving.settings.ranks
    return {
        "weights": serving.weight_bytes() // ranks,
        "kv_cache_of_one_request": serving.cache_bytes(serving.settings.max_model_len or 0) // ranks,
        "adapters": serving.adapter_bytes() // ranks,
        "activations": serving.activation_bytes(),
        "context": GPU_CONTEXT_BYTES,
    }


def cluster_note(serving: Serving, defaults: EngineDefaults) -> str:
    """What vLLM needs of a Ray cluster, in words: only Ray knows what the cluster has, or will when it has grown."""
    ranks = serving.settings.ranks
    if defaults.engine_device == "cuda":
        each, what = sum(_gpu_parts(serving).values()), "GPUs"
    else:
        parts = cpu_parts(serving, defaults.cpu_kv_cache_gib * GIB)
        divided = parts["weights"] + parts["adapters"]
        each, what = sum(parts.values()) - divided + divided // ranks, "parts on CPUs (`vllm_cpu`)"
    return (
        f"it takes {what} of the Ray cluster: {ranks}, with {each / GIB:.1f} GiB or more each; whether they are free "
        "shows when the engine starts"
    )


def _gpu_needs(serving: Serving, machine: Machine, freed: Machine) -> list[Need]:
    """vLLM takes a share of each GPU, fills it with cache, and does not start where that much is not free."""
    ranks = serving.settings.ranks
    share = serving.settings.gpu_memory_utilization or GPU_SHARE
    least = _gpu_parts(serving)
    cards = machine.gpus[:ranks]
    if len(cards) < ranks:
        remedy = (
            f"this machine has {len(machine.gpus)} GPUs: set engine.tensor_parallel_size x pipeline_parallel_size to "
            "at most that, or let engines have a Ray cluster's (HEARTH_ENGINE_RAY_ADDRESS)"
        )
        return [weigh(Resource.GPU_MEMORY, least, Room(0, 0), remedy)]
    needs = []
    for index, card in enumerate(cards):
        claim = int(share * card.total)
        room = Room(claim, claim if index < len(freed.gpus) else min(claim, card.free))
        rest = max(0, claim - sum(least.values()))
        remedy = "use more GPUs (engine.tensor_parallel_size), a quantized or smaller model, or a shorter max_model_len"
        needs.append(weigh(Resource.GPU_MEMORY, {**least, "more_kv_cache": rest}, room, remedy))
    return needs


def infinity_parts(weights_bytes: int) -> dict[str, int]:
    """What infinity takes: the weights wider than they lie on disk, as it computes in float32 on a CPU."""
    return {"processes": INFINITY_PROCESS_BYTES, "weights": 2 * weights_bytes}


def infinity_needs(weights_bytes: int, machine: Machine, freed: Machine) -> list[Need]:
    """What infinity needs here."""
    parts = infinity_parts(weights_bytes)
    room = machine.memory.plus(freed.memory.free)
    return [weigh(Resource.MEMORY, parts, room, "choose a smaller model, or undeploy or interrupt something else")]
