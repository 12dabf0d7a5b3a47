"""Deployments: what is to be served (desired), and what each inference node serves (observed)."""

from enum import StrEnum
from typing import Annotated, Any

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


ReplicaCount = Annotated[int, Field(ge=1, le=1000)]
"""How many engines serve one deployment, each on a node of its own."""


MaxReplicas = Annotated[int, Field(ge=0, le=1000)]
"""How many engines may serve one deployment when its load takes more than `replicas`; 0: never more than those."""


IdleSeconds = Annotated[int, Field(ge=0, le=7 * 86400)]
"""After so many seconds without a request no engine runs, until the next request; 0: one always does."""


class DeployRequest(Frozen):
    """Serve this base model with these adapters."""

    model_id: str
    adapter_ids: tuple[str, ...] = ()
    engine: EngineSettings = Field(default=EngineSettings(), description="how vLLM is to serve it; all of it optional")
    replicas: ReplicaCount | None = Field(
        default=None,
        exclude_if=lambda given: given is None,
        description="engines that are to serve it; without it as many as before, at first one",
    )
    max_replicas: MaxReplicas | None = Field(
        default=None,
        exclude_if=lambda given: given is None,
        description="engines that may serve it when its load takes more than `replicas`; 0: no more; else as before",
    )
    idle_after: IdleSeconds | None = Field(
        default=None,
        exclude_if=lambda given: given is None,
        description="seconds without a request after which no engine runs until the next; 0: never; else as before",
    )


class DeploymentChange(Frozen):
    """What of a deployment changes while it serves, with no new version of it; what is not given stays."""

    replicas: ReplicaCount | None = None
    max_replicas: MaxReplicas | None = None
    idle_after: IdleSeconds | None = None


class Deployed(Frozen):
    """What is deployed."""

    model_id: str
    adapter_ids: tuple[str, ...]


class DeploymentState(StrEnum):
    """What a deployment does right now."""

    LOADING = "LOADING"  # an engine starts, or its adapters change
    READY = "READY"  # a request sent now would be answered
    IDLE = "IDLE"  # no request came for long, so no engine runs: the next request is held until one does
    DRAINING = "DRAINING"  # undeployed; the engine is being stopped
    FAILED = "FAILED"  # given up; the job's error says why


class Replica(Deployed):
    """One engine of a deployment, and the version that it serves or loads."""

    index: int = Field(ge=0, description="which of the replicas it is; each has one node")
    host: str = Field(description="the host of its node")
    state: DeploymentState
    detail: str = Field(default="", description="what it waits for, or what went wrong there")


class ReplicaStatus(Frozen):
    """How many engines are to serve a deployment, how many do, and where they are."""

    desired: int
    min: int = Field(default=1, description="as many as there are at least: `replicas` as it was asked for")
    max: int = Field(default=0, description="as many as its load may make them (`max_replicas`); 0: it makes no more")
    reason: str = Field(default="", description="why the load made them as many as they are")
    ready: int = Field(description="those that would answer a request now")
    nodes: tuple[Replica, ...] = Field(default=(), description="those that a node has; others wait for one")


class DeployStatus(Deployed):
    """What is deployed, how it does, and the job that carries it."""

    job: Job
    engine: EngineSettings = Field(default=EngineSettings(), description="what was asked of the engine")
    state: DeploymentState
    detail: str = Field(default="", description="what is being waited for, or what went wrong")
    serving: Deployed | None = Field(
        default=None, description="what answers requests right now; null when nothing does"
    )
    replicas: ReplicaStatus
    idle_after: int = Field(default=0, description="seconds without a request after which no engine runs; 0: never")


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
    health_url: str = Field(default="", description="what answers 2xx there as long as the engine lives")
    models: tuple[str, ...] = Field(default=(), description="every model name the engine answers to")
    adapter_ids: tuple[str, ...] = ()
    model_id: str
    generation: int
    detail: str = ""
    replica: int = Field(default=0, description="which of the deployment's replicas it is")
    runs: tuple[str, ...] = Field(
        default=(),
        description="the jobs of the versions of which an engine runs there, or is about to",
    )
    lacks: str = Field(default="", description="the model that it has not got, and could not get when it last tried")

    def silenced(self, detail: str) -> "NodeReport":
        """The same of a node whose engine answers no request, for the reason given."""
        return self.model_copy(update={"state": DeploymentState.LOADING, "url": "", "health_url": "", "detail": detail})


class EngineLoad(Frozen):
    """What an engine has to do at one moment."""

    running: float = Field(ge=0, description="requests at work; of an engine that does not tell, answered in a second")
    waiting: float = Field(ge=0, description="what it has taken and not begun: requests, or texts (infinity)")
