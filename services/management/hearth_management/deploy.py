"""Deploying the LLM: checks before anything is recorded, and a status that does not lie."""

from hearth_contracts.deploy import Deployed, DeploymentState, DeployRequest, DeployStatus, Engine, NodeReport
from hearth_contracts.errors import Invalid, NotFound
from hearth_contracts.jobs import Job, JobStatus
from hearth_contracts.names import is_adapter_id
from hearth_jobs.deployments import LLM_DEPLOYMENT, Deployment
from hearth_jobs.idempotency import Recorder, no_record
from hearth_storage.adapters import read_manifest

from hearth_management.models import require_base
from hearth_management.services import Services

NOTHING = "nothing is deployed; POST /v1/deploy/ deploys a model"


def deploy(services: Services, request: DeployRequest, record: Recorder = no_record) -> Job:
    """Ask for a model and its adapters to be served. Raises NotFound, Invalid, with nothing changed."""
    base = require_base(services, request.model_id)
    if len(set(request.adapter_ids)) != len(request.adapter_ids):
        raise Invalid("adapter_ids names an adapter twice")
    for adapter_id in request.adapter_ids:
        _check_adapter(services, adapter_id, base.model_id)
    _, job = services.deployments.desire(
        LLM_DEPLOYMENT,
        engine=Engine.VLLM,
        model_id=base.model_id,
        adapter_ids=request.adapter_ids,
        served_name=services.settings.llm_name,
        record=record,
    )
    return job


def _check_adapter(services: Services, adapter_id: str, base_id: str) -> None:
    manifest = read_manifest(services.s3, adapter_id) if is_adapter_id(adapter_id) else None
    if manifest is None:
        raise NotFound(f"there is no adapter {adapter_id!r}; GET /v1/models/ lists what there is")
    if manifest.base_model_id != base_id:
        raise Invalid(f"adapter {adapter_id!r} was trained on {manifest.base_model_id!r}; it does not fit {base_id!r}")
    if manifest.rank > services.settings.max_lora_rank:
        limit = services.settings.max_lora_rank
        raise Invalid(f"adapter {adapter_id!r} has rank {manifest.rank}; at most {limit} can be deployed")


def deployed(services: Services) -> Deployed:
    """What is desired. Raises NotFound."""
    record = services.deployments.get(LLM_DEPLOYMENT)
    if record is None or record.desired is None:
        raise NotFound(NOTHING)
    return Deployed(model_id=record.desired.model_id, adapter_ids=record.desired.adapter_ids)


def undeploy(services: Services) -> Job:
    """Ask for nothing to be served. Raises NotFound."""
    spec = services.deployments.undeploy(LLM_DEPLOYMENT)
    if spec is None:
        raise NotFound(NOTHING)
    return services.jobs.get(spec.job_id)


def interrupt_job(services: Services, job_id: str) -> Job:
    """Interrupt any job; one that carries a deployment undeploys it."""
    for record in services.deployments.all():
        if record.desired is not None and record.desired.job_id == job_id:
            if record.serving is None or record.serving.job_id == job_id:
                services.deployments.undeploy(record.name)
            else:
                services.deployments.give_up(record.desired, "interrupted")
    return services.jobs.interrupt(job_id)


def status(services: Services) -> DeployStatus:
    """What is desired or was last, how it does, and its job. Raises NotFound."""
    record = services.deployments.get(LLM_DEPLOYMENT)
    if record is None or record.latest is None:
        raise NotFound(NOTHING)
    spec = record.desired or record.latest
    job = services.jobs.get(spec.job_id)
    reports = [node for node in services.nodes.live() if node.deployment == LLM_DEPLOYMENT]
    state, detail = _state(record, job, reports)
    answering = [node for node in reports if node.state is DeploymentState.READY]
    return DeployStatus(
        model_id=spec.model_id,
        adapter_ids=spec.adapter_ids,
        job=job,
        state=state,
        detail=detail,
        serving=Deployed(model_id=answering[0].model_id, adapter_ids=answering[0].adapter_ids) if answering else None,
    )


def _state(record: Deployment, job: Job, reports: list[NodeReport]) -> tuple[DeploymentState, str]:
    """The state to show and the words that go with it. Raises NotFound when there is nothing to show."""
    if record.desired is None:
        if job.status is JobStatus.RUNNING:
            return DeploymentState.DRAINING, "undeployed; the engine is being stopped"
        if job.status is JobStatus.FAILED:
            return DeploymentState.FAILED, job.error or record.failure
        raise NotFound(NOTHING)
    failure = f"the last deploy was given up: {record.failure}" if record.failure else ""
    mine = [node for node in reports if node.generation == record.desired.generation]
    if any(node.state is DeploymentState.READY for node in mine):
        return DeploymentState.READY, failure
    waiting = next((node.detail for node in reports if node.detail), "waiting for an inference node")
    return DeploymentState.LOADING, "; ".join(words for words in (waiting, failure) if words)
