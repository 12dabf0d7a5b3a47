"""vLLM: language models, with LoRA adapters loaded and unloaded while it runs."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec

from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import GIB, checked, clean_environment, weights_bytes

_RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_FEW_CORES = 4
_RANKS = (1, 8, 16, 32, 64, 128, 256)
_CPU_PROCESSES_BYTES = 3 * GIB
"""What its three processes take on a CPU before any weights: measured 2.9 GiB."""


@dataclass(frozen=True)
class VllmDriver:
    """`vllm serve`, from the environment that the settings name."""

    settings: InferenceSettings
    health_path: str = "/health"

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        """See EngineDriver."""
        settings = self.settings
        command = [
            str(settings.engine_python), "-m", "vllm.entrypoints.cli.main", "serve", str(model),
            "--served-model-name", spec.served_name, spec.model_id,
            "--host", "127.0.0.1", "--port", str(port),
            "--enable-lora", "--max-loras", str(settings.max_loras), "--max-lora-rank", str(_rank(settings)),
            "--max-model-len", str(min(settings.max_model_len, context_length(model) or settings.max_model_len)),
            "--disable-uvicorn-access-log",
        ]  # fmt: skip
        if settings.engine_device == "cpu":
            command.append("--enforce-eager")  # torch.compile costs a minute and gains nothing clear there
        if settings.tool_call_parser:
            command += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_call_parser]
        return command

    def environment(self, scratch: Path) -> dict[str, str]:
        """See EngineDriver."""
        environment = {
            **clean_environment(scratch, self.settings.engine_python),
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        if self.settings.engine_device == "cpu":
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(self.settings.cpu_kv_cache_gib)
            environment["VLLM_CPU_OMP_THREADS_BIND"] = self.settings.cpu_threads or _threads(os.sched_getaffinity(0))
        return environment

    def memory_needed(self, model: Path) -> int | None:
        """See EngineDriver. On a GPU vLLM takes nearly all there is, so nothing fits beside it."""
        if self.settings.engine_device != "cpu":
            return None
        # the weights twice: they may be wider in memory than on disk, and are copied while they load
        return _CPU_PROCESSES_BYTES + self.settings.cpu_kv_cache_gib * GIB + 2 * weights_bytes(model)

    def warm_up(self, client: httpx.Client, model_name: str) -> None:
        """See EngineDriver."""
        # not token 0, which many models reserve for padding
        checked(client.post("/v1/completions", json={"model": model_name, "prompt": "Hello", "max_tokens": 1}))

    def adapters(self, client: httpx.Client, spec: DeploymentSpec) -> set[str]:
        """See EngineDriver."""
        models = checked(client.get("/v1/models")).json()["data"]
        return {str(model["id"]) for model in models} - {spec.served_name, spec.model_id}

    def load_adapter(self, client: httpx.Client, adapter_id: str, folder: Path) -> None:
        """See EngineDriver."""
        body = {"lora_name": adapter_id, "lora_path": str(folder)}
        checked(client.post("/v1/load_lora_adapter", json=body))

    def unload_adapter(self, client: httpx.Client, adapter_id: str) -> None:
        """See EngineDriver."""
        checked(client.post("/v1/unload_lora_adapter", json={"lora_name": adapter_id}))

    def requests_in_flight(self, client: httpx.Client) -> int:
        """See EngineDriver. Told to stop, vLLM drops what it works on, so whoever stops it must wait first."""
        return int(sum(float(count) for count in _RUNNING.findall(checked(client.get("/metrics")).text)))


def context_length(model: Path) -> int | None:
    """The longest context a model was made for, as its config.json says."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    found = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return int(found) if found else None


def _rank(settings: InferenceSettings) -> int:
    """The lowest limit that vLLM knows and that lets the settings' rank in."""
    return next(rank for rank in _RANKS if rank >= settings.max_lora_rank)


def _threads(cores: set[int]) -> str:
    """All of a few cores: of two, vLLM's own choice would leave one idle."""
    return ",".join(map(str, sorted(cores))) if len(cores) <= _FEW_CORES else "auto"
