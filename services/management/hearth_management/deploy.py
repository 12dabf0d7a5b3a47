"""Deployments: checked before anything is recorded, and with a status that does not lie.

There is one of each task, by name (`tasks.slots`); the reference's is `default`.
"""

from hearth_contracts.deploy import (
    Deployed,
    DeploymentChange,
    DeploymentSpec,
    DeploymentState,
    DeployRequest,
    DeployStatus,
    Engine,
    NamedDeployment,
    NodeReport,
    Replica,
    ReplicaStatus,
)
from hearth_contracts.errors import Fault, Invalid, NotFound
from hearth_contracts.fit import FitReport
from hearth_contracts.jobs import Job, JobStatus
from hearth_contracts.models import StoredModel
from hearth_fit.facts import FactsUnknown
from hearth_jobs.deployment_record import Deployment
from hearth_jobs.deployments import LLM_DEPLOYMENT
from hearth_jobs.idempotency import Recorder, no_record
from hearth_jobs.nodes import outlives_its_node
from hearth_storage.model_store import snapshot_path

from hearth_management.adapters import Base, check_adapter
from hearth_management.asking import as_they_are
from hearth_management.fit import deploy_report, facts_of, require_room
from hearth_management.models import require_model
from hearth_management.services import Services
from hearth_management.tasks import DOES, ENGINES, Slot, slots, task_of


def slot_named(services: Services, name: str) -> Slot:
    """The deployment of this name. Raises NotFound."""
    found = slots(services.settings)
    if name not in found:
        raise NotFound(f"there is no deployment {name!r}; there are: {', '.join(found)}")
    return found[name]


def deploy(
    services: Services,
    request: DeployRequest,
    record: Recorder = no_record,
    name: str = LLM_DEPLOYMENT,
    instead_of: DeploymentSpec | None = None,
) -> Job:
    """Ask for a model and its adapters to be served; with `instead_of`, in place of that version alone.

    Raises NotFound, Invalid, Conflict, Superseded, with nothing changed.
    """
    slot, model = slot_named(services, name), _checked(services, name, request)
    _check_bounds(services, slot.name, request)
    require_room(services, model.model_id, deploy_report(services, slot, model, request.engine))
    _, job = services.deployments.desire(
        slot.name,
        engine=ENGINES[slot.task],
        task=slot.task,
        model_id=model.model_id,
        adapter_ids=request.adapter_ids,
        served_name=slot.served_name,
        settings=request.engine,
        replicas=request.replicas,
        max_replicas=request.max_replicas,
        idle_after=request.idle_after,
        instead_of=instead_of,
        model=model,
        record=record,
    )
    return job


def deploy_beside(services: Services, spec: DeploymentSpec, adapter_id: str) -> Job:
    """Ask for one more adapter beside what this version serves. Raises what `deploy` raises."""
    adapters = (*spec.adapter_ids, adapter_id)
    request = DeployRequest(model_id=spec.model_id, adapter_ids=adapters, engine=spec.settings)
    return deploy(services, request, name=spec.name, instead_of=spec)


def estimate(services: Services, request: DeployRequest, name: str = LLM_DEPLOYMENT) -> FitReport:
    """What such a deployment would take. Raises what `deploy` raises, but for want of room."""
    return deploy_report(services, slot_named(services, name), _checked(services, name, request), request.engine)


def _checked(services: Services, name: str, request: DeployRequest) -> StoredModel:
    """The model, when all that the request names is there and fits together."""
    slot = slot_named(services, name)
    model = require_model(services, request.model_id)
    task = task_of(snapshot_path(services.home.models, model))
    if task is not slot.task:
        raise Invalid(
            f"{model.model_id!r} {DOES[task]}; the deployment {slot.name!r} is for a model that {DOES[slot.task]}"
        )
    if ENGINES[slot.task] is Engine.INFINITY:
        _refuse_for_infinity(request)
        return model
    _check_llm(services, model, request)
    return model


def _refuse_for_infinity(request: DeployRequest) -> None:
    if request.adapter_ids:
        raise _fault("adapter_ids", "adapters are for models that generate text")
    if asked := request.engine.model_dump(exclude_none=True):
        raise _fault("engine", f"{', '.join(asked)}: settings of vLLM, which does not serve this model")


def _check_llm(services: Services, model: StoredModel, request: DeployRequest) -> None:
    try:
        facts = facts_of(services, model)
    except FactsUnknown:
        facts = None
    length = request.engine.max_model_len
    if length is not None and facts is not None and facts.context is not None and length > facts.context:
        raise _fault("engine", f"max_model_len is {length}, and {model.model_id} takes at most {facts.context} tokens")
    if len(set(request.adapter_ids)) != len(request.adapter_ids):
        raise _fault("adapter_ids", "an adapter is named twice")
    base = Base(model.model_id, services.settings.rank_limit(request.engine), facts)
    for adapter_id in request.adapter_ids:
        check_adapter(services.s3, adapter_id, base)


def _fault(field: str, words: str) -> Invalid:
    return Invalid(f"{field}: {words}", faults=[Fault(loc=["body", field], msg=words)])


def _nothing(name: str) -> NotFound:
    how = "POST /v1/deploy/" if name == LLM_DEPLOYMENT else f"PUT /v1/deployments/{name}/"
    return NotFound(f"nothing is deployed; {how} deploys a model")


def deployed(services: Services, name: str = LLM_DEPLOYMENT) -> Deployed:
    """What is desired. Raises NotFound."""
    record = services.deployments.get(name)
    if record is None or record.desired is None:
        raise _nothing(name)
    return Deployed(model_id=record.desired.model_id, adapter_ids=record.desired.adapter_ids)


def undeploy(services: Services, name: str = LLM_DEPLOYMENT) -> Job:
    """Ask for nothing to be served. Raises NotFound."""
    spec = services.deployments.undeploy(slot_named(services, name).name)
    if spec is None:
        raise _nothing(name)
    return services.jobs.get(spec.job_id)


def interrupt_job(services: Services, job_id: str) -> Job:
    """Interrupt any job; one that carries a deployment undeploys it."""
    for record in services.deployments.all():
        if record.desired is not None and record.desired.job_id == job_id:
            if record.serving is None or record.serving.job_id == job_id:
                services.deployments.undeploy(record.name)
            else:
                services.deployments.give_up(record.desired, "interrupted")
    return services.deployments.interrupt(job_id)


def change(services: Services, name: str, wanted: DeploymentChange) -> NamedDeployment:
    """Have another number of engines serve what is deployed. Raises NotFound, Invalid."""
    slot = slot_named(services, name)
    _check_bounds(services, slot.name, wanted)
    if not services.deployments.scale(slot.name, wanted.replicas, wanted.idle_after, wanted.max_replicas):
        raise _nothing(name)
    return named(services, name)


def _check_bounds(services: Services, name: str, wanted: DeployRequest | DeploymentChange) -> None:
    """Raises Invalid where there would be more engines than there may be."""
    record = services.deployments.get(name)
    least = wanted.replicas if wanted.replicas is not None else record.replicas if record else 1
    most = wanted.max_replicas if wanted.max_replicas is not None else record.max_replicas if record else 0
    if 0 < most < least:
        field = "max_replicas" if wanted.max_replicas is not None else "replicas"
        raise _fault(field, f"replicas is {least}, and max_replicas {most}; it may not be less (0: no scaling by load)")


def list_all(services: Services) -> list[NamedDeployment]:
    """Every deployment that there can be, with what it does."""
    return [named(services, name) for name in slots(services.settings)]


def named(services: Services, name: str) -> NamedDeployment:
    """One deployment. Raises NotFound for a name that none has."""
    slot = slot_named(services, name)
    try:
        now = status(services, name)
    except NotFound:
        now = None
    return NamedDeployment(name=slot.name, task=slot.task, served_name=slot.served_name, status=now)


def status(services: Services, name: str = LLM_DEPLOYMENT) -> DeployStatus:
    """What is desired or was last, how it does, and its job. Raises NotFound."""
    record = services.deployments.get(name)
    if record is None or record.latest is None:
        raise _nothing(name)
    spec = record.desired or record.latest
    job = services.jobs.get(spec.job_id)
    mine = [node for node in services.nodes.live() if node.deployment == name and not outlives_its_node(node)]
    reports = as_they_are(mine)
    state, detail = _state(record, job, reports)
    answering = [node for node in reports if node.state is DeploymentState.READY]
    replicas = _replicas(record, reports)
    if record.desired is not None and not record.is_asleep and replicas.ready < replicas.desired > 1:
        detail = "; ".join(words for words in (_count(replicas), detail) if words)
    return DeployStatus(
        model_id=spec.model_id,
        adapter_ids=spec.adapter_ids,
        job=job,
        engine=spec.settings,
        state=state,
        detail=detail,
        serving=Deployed(model_id=answering[0].model_id, adapter_ids=answering[0].adapter_ids) if answering else None,
        replicas=replicas,
        idle_after=record.idle_after,
    )


def _replicas(record: Deployment, reports: list[NodeReport]) -> ReplicaStatus:
    nodes = tuple(
        Replica(
            index=node.replica,
            host=node.node_id.partition(":")[0],
            state=node.state,
            detail=node.detail,
            model_id=node.model_id,
            adapter_ids=node.adapter_ids,
        )
        for node in sorted(reports, key=lambda node: node.replica)
    )
    ready = sum(node.state is DeploymentState.READY for node in nodes)
    by_load = record.by_load
    return ReplicaStatus(
        desired=record.desired_replicas if record.desired else 0,
        min=record.replicas,
        max=record.max_replicas,
        reason=by_load.reason if by_load is not None and by_load.replicas == record.desired_replicas else "",
        ready=ready,
        nodes=nodes,
    )


def _count(replicas: ReplicaStatus) -> str:
    """How many replicas answer, and what the others wait for."""
    words = f"{replicas.ready} of {replicas.desired} replicas answer"
    waiting = replicas.desired - len(replicas.nodes)
    return f"{words}; without an inference node: {waiting}" if waiting > 0 else words


def _state(record: Deployment, job: Job, reports: list[NodeReport]) -> tuple[DeploymentState, str]:
    """The state to show and the words that go with it. Raises NotFound when there is nothing to show."""
    if record.desired is None:
        if job.status is JobStatus.RUNNING:
            return DeploymentState.DRAINING, "undeployed; the engine is being stopped"
        if job.status is JobStatus.FAILED:
            return DeploymentState.FAILED, job.error or record.failure
        raise _nothing(record.name)
    failure = f"the last deploy was given up: {record.failure}" if record.failure else ""
    if record.is_asleep:
        asleep = f"no request came for {record.idle_after} s; the next one starts an engine and waits for it"
        return DeploymentState.IDLE, "; ".join(words for words in (asleep, failure) if words)
    mine = [node for node in reports if node.generation == record.desired.generation]
    if any(node.state is DeploymentState.READY for node in mine):
        return DeploymentState.READY, failure
    waiting = next((node.detail for node in reports if node.detail), "waiting for an inference node")
    return DeploymentState.LOADING, "; ".join(words for words in (waiting, failure) if words)
