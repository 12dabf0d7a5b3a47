"""Models, jobs, fine-tunes, deployments, keys, usage and the system: what can be asked of each."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar

from hearth_contracts.access import ApiKey, AuditEntry, KeyChange, KeyRequest, NewKey, UsageRow
from hearth_contracts.datasets import TokenCount
from hearth_contracts.deploy import DeploymentChange, DeployRequest, NamedDeployment
from hearth_contracts.engine import EngineSettings
from hearth_contracts.finetune import FinetunePlan, FinetuneRequest, FinetuneStatus, Resources
from hearth_contracts.fit import FitReport
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.models import HubModel, ImportRequest, MergeRequest, ModelEntry
from hearth_contracts.system import SystemReport

from hearth_client import asks
from hearth_client.binding import Async, Sync, operation
from hearth_client.handles import AsyncDeployment, AsyncJobHandle, AsyncRun, Deployment, JobHandle, Run, served
from hearth_client.request import Request, Steps, ask, begin, delete, dumped, get, post, reading

J = TypeVar("J", JobHandle, AsyncJobHandle)
R = TypeVar("R", Run, AsyncRun)
D = TypeVar("D", Deployment, AsyncDeployment)

ModelEntries = list[ModelEntry]  # in the classes below, `list` is a method
HubModels = list[HubModel]
AuditEntries = list[AuditEntry]

DeploymentName = Literal["default", "embedding", "rerank"]


class ModelCalls(Generic[J], ABC):
    """Base models and adapters."""

    @abstractmethod
    def _handle(self, job: Job) -> J: ...

    @operation
    def list(self) -> Request[list[ModelEntry]]:
        """Every base model and adapter."""
        return get("/models/", list[ModelEntry])

    @operation
    def finetunable(self) -> Request[ModelEntries]:
        """The base models that can be fine-tuned."""
        return get("/finetune/models/", list[ModelEntry])

    @operation
    def search(self, text: str, limit: int = 10) -> Request[HubModels]:
        """Models on the hub by words of their names, most downloaded first."""
        return get("/hub/models/", HubModels, search=text, limit=limit)

    @operation
    def add(self, model_id: str) -> Request[J]:
        """Download a model from the hub."""
        return begin("POST", "/models/add/", Job, model_id=model_id).map(self._handle)

    @operation
    def estimate(self, model_id: str) -> Request[FitReport]:
        """What a download would take. Nothing begins."""
        return begin("POST", "/models/add/", FitReport, model_id=model_id, dry_run=True)

    @operation
    def take(self, model_id: str, folder: str) -> Request[J]:
        """Take a model from a folder that lies under HEARTH_HOME/imports on the platform's machine."""
        return begin("POST", "/models/import/", Job, ImportRequest(model_id=model_id, folder=folder)).map(self._handle)

    @operation
    def merge(self, adapter_id: str, model_id: str) -> Request[J]:
        """Add an adapter's weights to its base's, as a new model with this id."""
        return begin("POST", f"/models/{adapter_id}/merge/", Job, MergeRequest(model_id=model_id)).map(self._handle)

    @operation
    def delete(self, model_id: str) -> Request[None]:
        """Remove a base model or an adapter. Raises Conflict while something needs it."""
        return delete(f"/models/{model_id}/")


class Models(ModelCalls[JobHandle], Sync):
    """Base models and adapters."""

    def _handle(self, job: Job) -> JobHandle:
        return JobHandle(self._sender, job)


class AsyncModels(ModelCalls[AsyncJobHandle], Async):
    """The same, awaited."""

    def _handle(self, job: Job) -> AsyncJobHandle:
        return AsyncJobHandle(self._sender, job)


class JobsCalls(Generic[J], ABC):
    """Everything that takes a while."""

    @abstractmethod
    def _handle(self, job: Job) -> J: ...

    @operation
    def list(
        self,
        kinds: Iterable[JobKind | str] = (),
        statuses: Iterable[JobStatus | str] = (),
        since: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Request[list[Job]]:
        """Jobs, newest first; the id of the last one is the cursor of the next page."""
        after = None if since is None else since.isoformat()
        return get("/jobs/", list[Job], kind=[*kinds], status=[*statuses], since=after, limit=limit, cursor=cursor)

    @operation
    def get(self, job_id: str) -> Request[J]:
        """One of them."""
        return asks.job(job_id).map(self._handle)


class Jobs(JobsCalls[JobHandle], Sync):
    """Everything that takes a while."""

    def _handle(self, job: Job) -> JobHandle:
        return JobHandle(self._sender, job)


class AsyncJobs(JobsCalls[AsyncJobHandle], Async):
    """The same, awaited."""

    def _handle(self, job: Job) -> AsyncJobHandle:
        return AsyncJobHandle(self._sender, job)


class FinetuneCalls(Generic[R], ABC):
    """Training adapters."""

    @abstractmethod
    def _run(self, record: FinetuneStatus) -> R: ...

    @operation
    def create(
        self,
        name: str,
        model_id: str,
        dataset_id: str,
        hyperparameters: Hyperparameters | Mapping[str, Any] | None = None,
        *,
        resources: Resources | Mapping[str, Any] | None = None,
        priority: int = 0,
        deploy: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> Steps[R]:
        """Train an adapter for a model on a dataset; `deploy`: serve it beside its base once it is trained.

        `resources`: how many processes of a Ray cluster train it, and what each has.
        """
        asked = _finetune_request(name, model_id, dataset_id, hyperparameters)
        changes = {"priority": priority, "deploy": deploy, "metadata": dict(metadata or {})}
        asked = asked.model_copy(update={**changes, "resources": Resources.model_validate(resources or {})})
        job = yield from ask(begin("POST", "/finetune/", Job, asked))
        return self._run(_begun_by(job, (yield from ask(get("/finetune/", list[FinetuneStatus])))))

    @operation
    def plan(
        self, model_id: str, dataset_id: str, hyperparameters: Hyperparameters | Mapping[str, Any] | None = None
    ) -> Request[FinetunePlan]:
        """Every setting that such a fine-tune would have. Nothing begins."""
        asked = _finetune_request("plan", model_id, dataset_id, hyperparameters)
        return post("/finetune/plan/", FinetunePlan, asked, repeatable=True)

    @operation
    def tokens(self, model_id: str, dataset_id: str) -> Request[TokenCount]:
        """How many tokens a dataset has by a model's tokenizer."""
        return get("/finetune/tokens/", TokenCount, model_id=model_id, dataset_id=dataset_id)

    @operation
    def estimate(
        self, model_id: str, dataset_id: str, hyperparameters: Hyperparameters | Mapping[str, Any] | None = None
    ) -> Request[FitReport]:
        """Whether it fits on the platform's machine. Nothing begins."""
        asked = _finetune_request("estimate", model_id, dataset_id, hyperparameters)
        return begin("POST", "/finetune/", FitReport, asked, dry_run=True)

    @operation
    def list(self) -> Request[list[FinetuneStatus]]:
        """All of them, newest first."""
        return get("/finetune/", list[FinetuneStatus])

    @operation
    def get(self, finetune_id: str) -> Request[R]:
        """One of them."""
        return asks.finetune(finetune_id).map(self._run)

    @operation
    def latest(self) -> Request[R]:
        """The one begun last. Raises NotFound when there is none."""
        return get("/finetune/status/", FinetuneStatus).map(self._run)


class Finetune(FinetuneCalls[Run], Sync):
    """Training adapters."""

    def _run(self, record: FinetuneStatus) -> Run:
        return Run(self._sender, record)


class AsyncFinetune(FinetuneCalls[AsyncRun], Async):
    """The same, awaited."""

    def _run(self, record: FinetuneStatus) -> AsyncRun:
        return AsyncRun(self._sender, record)


def _begun_by(job: Job, records: list[FinetuneStatus]) -> FinetuneStatus:
    return next(record for record in records if job.id in (record.job_id, *record.previous_job_ids))


def _finetune_request(
    name: str, model_id: str, dataset_id: str, hyperparameters: Hyperparameters | Mapping[str, Any] | None
) -> FinetuneRequest:
    given = (
        hyperparameters if isinstance(hyperparameters, Hyperparameters) else Hyperparameters(**hyperparameters or {})
    )
    return FinetuneRequest(name=name, model_id=model_id, dataset_id=dataset_id, hyperparameters=given)


class DeployCalls(Generic[D], ABC):
    """What is served."""

    @abstractmethod
    def _deployment(self, name: str, job: Job) -> D: ...

    @operation
    def __call__(
        self,
        model_id: str,
        adapters: Iterable[str] = (),
        engine: EngineSettings | Mapping[str, Any] | None = None,
        name: DeploymentName = "default",
        replicas: int | None = None,
        idle_after: int | None = None,
        max_replicas: int | None = None,
    ) -> Request[D]:
        """Serve a model with these adapters, in place of what is served under the name; `.wait()` until it answers.

        `replicas`: on so many inference nodes, at first one; `max_replicas`: on so many when its load takes them, 0: on
        no more. `idle_after`: seconds without a request after which no engine runs until the next, 0: one always does.
        None: as before.
        """
        changed = {"replicas": replicas, "max_replicas": max_replicas, "idle_after": idle_after}
        asked = _deploy_request(model_id, adapters, engine).model_copy(update=changed)
        begun = begin("PUT", f"/deployments/{name}/", Job, asked)
        return begun.map(lambda job: self._deployment(name, job))

    @operation
    def estimate(
        self,
        model_id: str,
        adapters: Iterable[str] = (),
        engine: EngineSettings | Mapping[str, Any] | None = None,
        name: DeploymentName = "default",
    ) -> Request[FitReport]:
        """Whether it fits on the platform's machine. Nothing begins."""
        asked = _deploy_request(model_id, adapters, engine)
        return begin("PUT", f"/deployments/{name}/", FitReport, asked, dry_run=True)

    @operation
    def list(self) -> Request[list[NamedDeployment]]:
        """What can be deployed, and what is."""
        return get("/deployments/", list[NamedDeployment])

    @operation
    def status(self, name: DeploymentName = "default") -> Request[NamedDeployment]:
        """One of them; its `status` is None when nothing is deployed."""
        return asks.deployment(name)

    @operation
    def current(self, name: DeploymentName = "default") -> Request[D]:
        """What is deployed, to be waited for. Raises NotFound when nothing is."""
        return asks.deployment(name).map(lambda found: self._deployment(name, served(found).job))

    @operation
    def scale(
        self,
        replicas: int | None = None,
        name: DeploymentName = "default",
        idle_after: int | None = None,
        max_replicas: int | None = None,
    ) -> Request[NamedDeployment]:
        """Serve what is deployed on so many inference nodes, on up to `max_replicas` when its load takes them, and on
        none after so many seconds without a request.

        None: as before. Raises NotFound when nothing is deployed.
        """
        given = {"replicas": replicas, "max_replicas": max_replicas, "idle_after": idle_after}
        wanted = DeploymentChange(**{name: value for name, value in given.items() if value is not None})
        path = f"/deployments/{name}/"
        return Request("PATCH", path, reading(NamedDeployment), json=dumped(wanted), repeatable=True)

    @operation
    def undeploy(self, name: DeploymentName = "default") -> Request[Job]:
        """Serve nothing under the name. Raises NotFound when nothing is."""
        return Request("DELETE", f"/deployments/{name}/", reading(Job))


class Deploy(DeployCalls[Deployment], Sync):
    """What is served."""

    def _deployment(self, name: str, job: Job) -> Deployment:
        return Deployment(self._sender, name, job)


class AsyncDeploy(DeployCalls[AsyncDeployment], Async):
    """The same, awaited."""

    def _deployment(self, name: str, job: Job) -> AsyncDeployment:
        return AsyncDeployment(self._sender, name, job)


def _deploy_request(
    model_id: str, adapters: Iterable[str], engine: EngineSettings | Mapping[str, Any] | None
) -> DeployRequest:
    given = engine if isinstance(engine, EngineSettings) else EngineSettings(**engine or {})
    return DeployRequest(model_id=model_id, adapter_ids=tuple(adapters), engine=given)


class KeyCalls:
    """API keys."""

    @operation
    def list(self) -> Request[list[ApiKey]]:
        """All of them, newest first, revoked ones too."""
        return get("/keys/", list[ApiKey])

    @operation
    def create(self, asked: KeyRequest) -> Request[NewKey]:
        """Make one: its secret is in the reply, and nowhere else."""
        return post("/keys/", NewKey, asked)

    @operation
    def change(self, key_id: str, wanted: KeyChange) -> Request[ApiKey]:
        """Change what is set in `wanted`; the rest stays."""
        return Request("PATCH", f"/keys/{key_id}/", reading(ApiKey), json=dumped(wanted), repeatable=True)

    @operation
    def revoke(self, key_id: str) -> Request[None]:
        """Let it open nothing any more."""
        return delete(f"/keys/{key_id}/")

    @operation
    def audit(self, key_id: str | None = None, limit: int = 100) -> Request[AuditEntries]:
        """Who changed what, newest first."""
        return get("/audit/", list[AuditEntry], key=key_id, limit=limit)


class Keys(KeyCalls, Sync):
    """API keys."""


class AsyncKeys(KeyCalls, Async):
    """The same, awaited."""


class UsageCalls:
    """What was used."""

    @operation
    def __call__(
        self, key_id: str | None = None, model: str | None = None, first: date | None = None, last: date | None = None
    ) -> Request[list[UsageRow]]:
        """Requests and tokens by day, key and model: 30 days up to today unless told."""
        days = {"from": first.isoformat() if first else None, "to": last.isoformat() if last else None}
        return get("/usage/", list[UsageRow], key=key_id, model=model, **days)


class Usage(UsageCalls, Sync):
    """What was used."""


class AsyncUsage(UsageCalls, Async):
    """The same, awaited."""


class SystemCalls:
    """The machine that Hearth's management runs on, and the queues of all machines."""

    @operation
    def look(self) -> Request[SystemReport]:
        """What is free, and what waits for whom."""
        return get("/system/", SystemReport)


class System(SystemCalls, Sync):
    """The machine and the queues."""


class AsyncSystem(SystemCalls, Async):
    """The same, awaited."""
