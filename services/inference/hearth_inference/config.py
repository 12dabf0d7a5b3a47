"""The inference node's settings, from HEARTH_* variables."""

from pathlib import Path
from typing import Literal

from hearth_contracts.deploy import Engine
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists the GPUs it has; absent without the driver."""


def detect_device(listing: Path = _NVIDIA_GPUS) -> Literal["cpu", "cuda"]:
    """What this machine can compute on."""
    return "cuda" if listing.is_dir() and any(listing.iterdir()) else "cpu"


class InferenceSettings(BaseSettings):
    """What one inference node is set to."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    engine: Engine = Field(default=Engine.VLLM, description="the engine this node runs: vllm or infinity")
    engine_python: Path = Field(description="the interpreter of the engine's own environment")
    engine_device: Literal["cpu", "cuda"] = Field(
        default_factory=detect_device, description="what the engine computes on; found by looking, where it is not set"
    )
    engine_start_seconds: float = Field(
        default=900, gt=0, description="an engine that does not answer after so many seconds has failed"
    )
    engine_max_restarts: int = Field(
        default=3, ge=0, description="failures in a row after which a deployment that served is given up"
    )
    engine_grace_seconds: float = Field(
        default=10, ge=0, description="how long requests in flight may go on when an engine is to stop"
    )
    max_model_len: int = Field(
        default=4096, ge=16, description="longest context in tokens; a model with a shorter one keeps its own"
    )
    max_loras: int = Field(default=4, ge=1, description="adapters that one batch may use at once")
    max_lora_rank: int = Field(default=64, ge=1, le=256, description="the highest LoRA rank that can be deployed")
    cpu_kv_cache_gib: int = Field(default=1, ge=1, description="memory for the key-value cache on a CPU, GiB")
    cpu_threads: str = Field(
        default="", description="cores for vLLM on a CPU, e.g. `0-7`; empty: all of a few, or vLLM's own choice of many"
    )
    tool_call_parser: str = Field(
        default="", description="vLLM's parser of tool calls for the deployed model, e.g. `hermes`; empty: no tools"
    )
