"""The interface between the node and an engine, and what all engines share."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from hearth_contracts.deploy import DeploymentSpec

GIB = 1024**3
_PASSED_ON = re.compile(
    r"PATH|LANG|LC_ALL|TMPDIR|TZ|LD_LIBRARY_PATH|LD_PRELOAD|OMP_.*|KMP_.*|VLLM_.*|CUDA_.*|NVIDIA_.*|NCCL_.*|OTEL_.*"
)
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception))\b:? *(.*)$")
_PREFIX = re.compile(r"^(?:\(\w[^)]*\) )*(?:(?:ERROR|CRITICAL) +[\d-]+ [\d:]+ \[[^\]]*\] ?)?(?:ERROR:?\s+)?")
_HEARSAY = (
    "See root cause above",
    "See stack trace for root cause",
    "WorkerProc initialization failed",
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "Application startup failed",
    "Executor failed",
)


class EngineRefused(Exception):
    """The engine answered a request of ours with an error; the message has its words."""


@dataclass(frozen=True)
class Work:
    """What an engine does, by its own counts."""

    done: float  # a number that changes whenever work is done; constant where it cannot be told
    waiting: float  # what it has taken and not begun
    running: float | None  # requests at work; None where it does not tell


@dataclass(frozen=True)
class StartStage:
    """What an engine does before it answers."""

    words: str
    loaded: float = 0.0  # how much of the weights it has, 0 to 1
    lacks_room: bool = False  # it cannot go on until somebody else makes room for it


class EngineDriver(Protocol):
    """One kind of engine. `client` is an HTTP client whose base URL is the running engine's."""

    @property
    def health_path(self) -> str:
        """The path of its health check."""
        ...

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        """How to start it, listening where the settings say. Raises OSError, ValueError when a model cannot be read."""
        ...

    def environment(self, spec: DeploymentSpec, scratch: Path) -> dict[str, str]:
        """Its whole environment: no secrets of ours, no way to the internet."""
        ...

    def memory_needed(self, spec: DeploymentSpec, model: Path) -> int | None:
        """Estimated bytes that it takes beside what runs already; None where that cannot be known."""
        ...

    def start_stage(self, log: str) -> StartStage | None:
        """What it does before it answers, by what it wrote of late; None where that cannot be told."""
        ...

    def warm_up(self, client: httpx.Client, model_name: str) -> None:
        """Have one real request answered. Raises EngineRefused, httpx.HTTPError."""
        ...

    def adapters(self, client: httpx.Client, spec: DeploymentSpec) -> set[str]:
        """The adapters that it answers to. Raises EngineRefused, httpx.HTTPError."""
        ...

    def load_adapter(self, client: httpx.Client, adapter_id: str, folder: Path) -> None:
        """Load one. Raises EngineRefused, httpx.HTTPError."""
        ...

    def unload_adapter(self, client: httpx.Client, adapter_id: str) -> None:
        """Unload one. Raises EngineRefused, httpx.HTTPError."""
        ...

    def work(self, client: httpx.Client) -> Work:
        """What it has done, does and is still to do. Raises EngineRefused, httpx.HTTPError, ValueError, KeyError."""
        ...

    def requests_in_flight(self, client: httpx.Client) -> int:
        """How many requests it works on; 0 where it finishes them by itself when told to stop."""
        ...


def clean_environment(scratch: Path, python: Path) -> dict[str, str]:
    """What every engine gets: the system's variables but none of Hearth's, its caches in `scratch`, offline."""
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    return {
        **passed,
        "PATH": os.pathsep.join([str(python.parent), passed.get("PATH", os.defpath)]),
        "HOME": str(scratch),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def weights_bytes(model: Path) -> int:
    """The size of a model's weights on disk."""
    files = [path for pattern in ("*.safetensors", "*.bin") for path in model.glob(pattern)]
    return sum(path.stat().st_size for path in files)


def checked(reply: httpx.Response) -> httpx.Response:
    """The reply, if it is a good one. Raises EngineRefused with the engine's message."""
    if reply.is_success:
        return reply
    words = reply.text
    try:
        body = reply.json()
        error = body.get("error", body)
        words = error.get("message", words) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        pass  # not JSON, or not an object: its text will do
    raise EngineRefused(f"{words.strip()[:500]} (HTTP {reply.status_code})")


def last_words(log: str, limit: int = 500) -> str:
    """Why an engine ended, out of its log: the last exception that is a cause and not a report of one."""
    lines = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    causes = [line for line in lines if _EXCEPTION.match(line) and not any(word in line for word in _HEARSAY)]
    if causes:
        return causes[-1][:limit]
    return " | ".join([line for line in lines if line][-3:])[-limit:] or "it said nothing"
