"""infinity: embeddings and reranking."""

import re
from dataclasses import dataclass
from pathlib import Path

import httpx
from hearth_contracts.deploy import DeploymentSpec
from hearth_fit.serving import infinity_parts

from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import EngineRefused, StartStage, Work, checked, clean_environment, weights_bytes

_ANSWERED = re.compile(r"^http_requests_total\{.*handler=\"/v1/(?!models).*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class InfinityDriver:
    """`infinity_emb v2`, from the environment that the settings name. It knows no adapters."""

    settings: InferenceSettings
    health_path: str = "/health"

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        """See EngineDriver."""
        return [
            str(self.settings.engine_python.with_name("infinity_emb")), "v2",
            "--model-id", str(model), "--served-model-name", spec.served_name,
            "--host", self.settings.engine_host, "--port", str(port), "--url-prefix", "/v1",
            "--device", self.settings.engine_device, "--engine", "torch", "--no-bettertransformer",
            "--lengths-via-tokenize",  # or usage would count characters
            "--log-level", "warning",
        ]  # fmt: skip

    def environment(self, spec: DeploymentSpec, scratch: Path) -> dict[str, str]:
        """See EngineDriver."""
        return {
            **clean_environment(scratch, self.settings.engine_python),
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
            "INFINITY_TRUST_REMOTE_CODE": "false",  # true by default: a model's own code would be run
        }

    def memory_needed(self, spec: DeploymentSpec, model: Path) -> int | None:
        """See EngineDriver."""
        return sum(infinity_parts(weights_bytes(model)).values()) if self.settings.engine_device == "cpu" else None

    def start_stage(self, log: str) -> StartStage | None:
        """See EngineDriver. It says nothing of the kind."""
        return None

    def warm_up(self, client: httpx.Client, model_name: str) -> None:
        """See EngineDriver. A reranker refuses embeddings and is asked to rank."""
        model = checked(client.get("/v1/models")).json()["data"][0]
        if "rerank" in model["capabilities"]:
            checked(client.post("/v1/rerank", json={"model": model_name, "query": "Hello", "documents": ["Hello"]}))
        else:
            checked(client.post("/v1/embeddings", json={"model": model_name, "input": "Hello"}))

    def adapters(self, client: httpx.Client, spec: DeploymentSpec) -> set[str]:
        """See EngineDriver."""
        return set()

    def load_adapter(self, client: httpx.Client, adapter_id: str, folder: Path) -> None:
        """See EngineDriver."""
        raise EngineRefused("infinity serves no adapters; deploy the model without adapter_ids")

    def unload_adapter(self, client: httpx.Client, adapter_id: str) -> None:
        """See EngineDriver."""

    def work(self, client: httpx.Client) -> Work:
        """See EngineDriver. It counts the requests that it has answered, and the texts that no batch has taken yet."""
        answered = sum(map(float, _ANSWERED.findall(checked(client.get("/metrics")).text)))
        queued = checked(client.get("/v1/models")).json()["data"][0]["stats"]["queue_absolute"]
        return Work(done=answered, waiting=float(queued), running=None)

    def requests_in_flight(self, client: httpx.Client) -> int:
        """See EngineDriver. It answers what it has begun before it ends."""
        return 0
