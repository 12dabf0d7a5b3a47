"""Deployments: what is to be served (desired), and what each inference node serves (observed)."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from hearth_contracts.base import Frozen
from hearth_contracts.engine import EngineSettings
from hearth_contracts.jobs import Job
from hearth_contracts.names import RecordId


class Engine(StrEnum):
    """The program that serves a model."""

    VLLM = "vllm"
    INFINITY = "infinity"


class Task(StrEnum):
    """What a model is served for, and so which routes it answers."""

    GENERATE = "generate"  # completions and chat completions
    EMBED = "embed"  # embeddings
    RERANK = "rerank"  # documents by their relevance to a query


_USUAL_TASK = {Engine.VLLM: Task.GENERATE, Engine.INFINITY: Task.EMBED}


def usual_task(fields: dict[str, Any]) -> Task:
    """The task of a record that names none: what its engine is mostly for."""
    return _USUAL_TASK[fields["engine"]]


class DeployRequest(Frozen):
    """Serve this base model with these adapters."""

    model_id: str
    adapter_ids: tuple[str, ...] = ()
    engine: EngineSettings = Field(default=EngineSettings(), description="how vLLM is to serve it; all of it optional")


class Deployed(Frozen):
    """What is deployed."""

    model_id: str
    adapter_ids: tuple[str, ...]


class DeploymentState(StrEnum):
    """What a deployment does right now."""

    LOADING = "LOADING"  # an engine starts, or its adapters change
    READY = "READY"  # a request sent now would be answered
    DRAINING = "DRAINING"  # undeployed; the engine is being stopped
    FAILED = "FAILED"  # given up; the job's error says why


class DeployStatus(Deployed):
    """What is deployed, how it does, and the job that carries it."""

    job: Job
    engine: EngineSettings = Field(default=EngineSettings(), description="what was asked of the engine")
    state: DeploymentState
    detail: str = Field(default="", description="what is being waited for, or what went wrong")
    serving: Deployed | None = Field(
        default=None, description="what answers requests right now; null when nothing does"
    )


class NamedDeployment(Frozen):
    """A deployment that there can be, and what it does."""

    name: str = Field(description="`default`, `embedding` or `rerank`")
    task: Task
    served_name: str = Field(description="what clients call the model, e.g. Compressa-Rerank")
    status: DeployStatus | None = Field(description="null when nothing is deployed under this name")


class DeploymentSpec(Frozen):
    """One version of a deployment's desired state."""

    name: str = Field(description="`default` for the LLM, `embedding`, `rerank`")
    engine: Engine
    task: Task = Field(default_factory=usual_task, description="which routes it answers")
    model_id: str
    adapter_ids: tuple[str, ...] = ()
    served_name: str = Field(description="the name clients call the base by, e.g. Compressa-LLM")
    settings: EngineSettings = Field(default=EngineSettings(), description="what was asked of the engine, as asked")
    job_id: RecordId = Field(description="the DEPLOY job that carries this version")
    generation: int = Field(ge=1, description="counts versions of this deployment; higher is newer")


class NodeReport(Frozen):
    """What one inference node says of itself; it is believed only as long as its lease lasts."""

    node_id: str
    deployment: str
    engine: Engine
    task: Task = Field(default_factory=usual_task, description="which routes its models answer")
    state: DeploymentState
    url: str = Field(description="where its engine answers, e.g. http://127.0.0.1:41234; empty while LOADING")
    models: tuple[str, ...] = Field(default=(), description="every model name the engine answers to")
    adapter_ids: tuple[str, ...] = ()
    model_id: str
    generation: int
    detail: str = ""
