"""The inference node's settings, from HEARTH_* variables."""

from pathlib import Path

from hearth_contracts.deploy import Engine
from hearth_fit.engine import EngineDefaults
from pydantic import ByteSize, Field

LOOPBACK = "127.0.0.1"


class InferenceSettings(EngineDefaults):
    """What one inference node is set to."""

    engine: Engine = Field(default=Engine.VLLM, description="the engine this node runs: vllm or infinity")
    worker_name: str = Field(
        default="", pattern=r"^[a-z0-9-]*$", description="what it is called in logs and `status`; empty: by its engine"
    )
    engine_python: Path = Field(description="the interpreter of the engine's own environment")
    engine_host: str = Field(
        default=LOOPBACK,
        description="the address that engines listen on, and that the gateway finds them at; they have no password",
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
    fetched_models_max: ByteSize = Field(
        default=ByteSize(0),
        description="how much the models that nodes fetch may take in the store, e.g. `200GiB`: for another the least "
        "recently used then goes; 0: as much as the disk has",
    )
    cpu_threads: str = Field(
        default="", description="cores for vLLM on a CPU, e.g. `0-7`; empty: all of a few, or vLLM's own choice of many"
    )
