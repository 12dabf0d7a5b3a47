"""How the engine is set where a deployment does not say, from HEARTH_* variables, and what comes of both together."""

from pathlib import Path
from typing import Literal, get_args

from hearth_contracts.engine import EngineSettings, LoraRank, ToolCallParser
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists the GPUs it has; absent without the driver."""


def detect_device(listing: Path = _NVIDIA_GPUS) -> Literal["cpu", "cuda"]:
    """What this machine can compute on."""
    return "cuda" if listing.is_dir() and any(listing.iterdir()) else "cpu"


class EngineDefaults(BaseSettings):
    """What inference nodes are set to, and management reckons with."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    engine_device: Literal["cpu", "cuda"] = Field(
        default_factory=detect_device, description="what the engine computes on; found by looking, where it is not set"
    )
    engine_ray_address: str = Field(
        default="",
        pattern=r"^(auto|[^/:\s]+:\d+)?$",
        description="host:port of the head of a Ray cluster that the inference node's machine is a node of, or `auto`: "
        "its GPUs then compute for the language models, a model's parts on as many nodes as it takes; empty: each "
        "inference node's own. Management is to have it too, with HEARTH_ENGINE_DEVICE as the cluster's nodes have it",
    )
    max_model_len: int = Field(
        default=4096, ge=16, description="longest context in tokens; a model with a shorter one keeps its own"
    )
    max_loras: int = Field(default=4, ge=1, description="adapters that one batch may use at once")
    max_lora_rank: int = Field(default=64, ge=1, le=256, description="the highest LoRA rank that can be deployed")
    cpu_kv_cache_gib: int = Field(default=1, ge=1, description="memory for the key-value cache on a CPU, GiB")
    tool_call_parser: ToolCallParser | Literal[""] = Field(
        default="", description="vLLM's parser of tool calls for the deployed model, e.g. `hermes`; empty: no tools"
    )

    def rank_limit(self, asked: EngineSettings) -> int:
        """The highest rank of an adapter that a deployment with these settings takes."""
        return asked.max_lora_rank or self.max_lora_rank

    def settled(self, asked: EngineSettings, context: int | None) -> EngineSettings:
        """`asked`, with what it leaves out as this node is set; `context` is the model's own limit in tokens."""
        chosen = {
            "max_model_len": min(self.max_model_len, context or self.max_model_len),
            "max_loras": self.max_loras,
            # the lowest limit that vLLM knows and that lets the node's rank in
            "max_lora_rank": next(rank for rank in get_args(LoraRank) if rank >= self.max_lora_rank),
            "tool_call_parser": self.tool_call_parser or None,
        }
        return EngineSettings.model_validate(chosen | asked.model_dump(exclude_none=True))
