"""vLLM: language models, with LoRA adapters loaded and unloaded while it runs."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec
from hearth_contracts.engine import EngineSettings
from hearth_fit.facts import FactsUnknown, context_of, read_facts
from hearth_fit.serving import VLLM_PROCESSES_BYTES, Serving, cpu_parts
from hearth_telemetry import traces

from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import GIB, StartStage, Work, checked, clean_environment, weights_bytes

_RUNNING = re.compile(r"^vllm:num_requests_running\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_WAITING = re.compile(r"^vllm:num_requests_waiting\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_TOKENS = re.compile(r"^vllm:(?:prompt|generation)_tokens_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_FEW_CORES = 4
_FOR_PARTS = ("RAY_", "GLOO_", "TORCH_", "FI_", "UCX_")
"""What a model's parts on several machines go by besides CUDA's, NCCL's and vLLM's: Ray's token, networks. As the chart
has it for Ray's nodes (`training.ray.settings`)."""
_KNOCKS, _IS_IN = "Connecting to existing Ray cluster", "Connected to Ray cluster"
_WAITS = "Waiting for creating a placement group"
_PART = re.compile(r"\((?:RayWorkerProc|CpuWorker) pid=")
_SHARDS = re.compile(r"checkpoint shards: +\d+% Completed \| (\d+)/(\d+)")


@dataclass(frozen=True)
class VllmDriver:
    """`vllm serve`, from the environment that the settings name."""

    settings: InferenceSettings
    health_path: str = "/health"

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        """See EngineDriver."""
        asked = self._settled(spec, model)
        command = [
            str(self.settings.engine_python), "-m", "vllm.entrypoints.cli.main", "serve", str(model),
            "--served-model-name", spec.served_name, spec.model_id,
            "--host", self.settings.engine_host, "--port", str(port),
            "--enable-lora", "--disable-uvicorn-access-log",
        ]  # fmt: skip
        if self._is_eager(asked) and asked.enforce_eager is None:
            command.append("--enforce-eager")
        if asked.tool_call_parser:
            command.append("--enable-auto-tool-choice")
        if self.settings.engine_ray_address:
            command += ["--distributed-executor-backend", "ray"]
        if address := traces.endpoint():
            command += ["--otlp-traces-endpoint", address]
        return command + flags(asked)

    def _is_eager(self, asked: EngineSettings) -> bool:
        """On a CPU unless asked otherwise: there torch.compile costs a minute and gains nothing clear."""
        return self.settings.engine_device == "cpu" and asked.enforce_eager is not False

    def _settled(self, spec: DeploymentSpec, model: Path) -> EngineSettings:
        return self.settings.settled(spec.settings, context_of(json.loads((model / "config.json").read_text("utf-8"))))

    def environment(self, spec: DeploymentSpec, scratch: Path) -> dict[str, str]:
        """See EngineDriver."""
        environment = {
            **clean_environment(scratch, self.settings.engine_python),
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "OTEL_SERVICE_NAME": os.environ.get("OTEL_SERVICE_NAME") or "hearth-vllm",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",  # as we do; by itself it would speak gRPC
        }
        if self.settings.engine_device == "cpu":
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(self.settings.cpu_kv_cache_gib)
            environment["VLLM_CPU_OMP_THREADS_BIND"] = self.settings.cpu_threads or _threads(os.sched_getaffinity(0))
        if self._is_eager(spec.settings):
            # vLLM compiles one function of its sampler all the same: its first request for logprobs held up all others
            # for 17 s.
            environment["TORCHDYNAMO_DISABLE"] = "1"
        if address := self.settings.engine_ray_address:
            environment |= {name: value for name, value in os.environ.items() if name.startswith(_FOR_PARTS)}
            environment |= {"RAY_ADDRESS": address, "RAY_COLOR_PREFIX": "0", "VLLM_USE_RAY_V2_EXECUTOR_BACKEND": "1"}
        return environment

    def memory_needed(self, spec: DeploymentSpec, model: Path) -> int | None:
        """See EngineDriver. On a GPU vLLM takes nearly all there is, so nothing fits beside it."""
        if self.settings.engine_device != "cpu" or self.settings.engine_ray_address:
            return None
        cache = self.settings.cpu_kv_cache_gib * GIB
        try:
            return sum(cpu_parts(Serving(read_facts(model), self._settled(spec, model)), cache).values())
        except FactsUnknown:  # the weights twice: they may be wider in memory than on disk
            return VLLM_PROCESSES_BYTES + cache + 2 * weights_bytes(model)

    def start_stage(self, log: str) -> StartStage | None:
        """See EngineDriver."""
        if shards := _SHARDS.findall(log):
            done, of = map(int, shards[-1])
            return StartStage(
                "preparing to serve" if done == of else f"loading the weights, {done} files of {of}", done / max(of, 1)
            )
        if (waits := log.rfind(_WAITS)) >= 0:
            if _PART.search(log, waits):
                return StartStage("starting the model's parts")
            return StartStage("waiting for room on the Ray cluster", lacks_room=True)
        if _KNOCKS in log and _IS_IN not in log:  # it would knock for ever
            return StartStage(f"waiting for the Ray cluster at {self.settings.engine_ray_address}")
        return None

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

    def work(self, client: httpx.Client) -> Work:
        """See EngineDriver. What it has done is tokens, read and written."""
        metrics = checked(client.get("/metrics")).text
        return Work(done=_sum(_TOKENS, metrics), waiting=_sum(_WAITING, metrics), running=_sum(_RUNNING, metrics))

    def requests_in_flight(self, client: httpx.Client) -> int:
        """See EngineDriver. Told to stop, vLLM drops what it works on, so whoever stops it must wait first."""
        work = self.work(client)
        return int(work.waiting + (work.running or 0))


def _sum(counts: re.Pattern[str], metrics: str) -> float:
    return sum(map(float, counts.findall(metrics)))


def flags(asked: EngineSettings) -> list[str]:
    """The settings as vLLM's command line has them: their names are its flags'."""
    words: list[str] = []
    for name, value in asked.model_dump(exclude_none=True).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words


def _threads(cores: set[int]) -> str:
    """All of a few cores: of two, vLLM's own choice would leave one idle."""
    return ",".join(map(str, sorted(cores))) if len(cores) <= _FEW_CORES else "auto"
