"""Adapters that are to be served as soon as they are trained, beside a base that is deployed already.

Each waits in Redis until it is served, or until it is clear that it will not be; run again, a step does no harm.
"""

import logging

from hearth_contracts.errors import HearthError
from hearth_contracts.finetune import Finetune
from hearth_contracts.jobs import JobStatus
from hearth_jobs.deployments import LLM_DEPLOYMENT, Superseded

from hearth_management.deploy import deploy_beside
from hearth_management.services import Services

log = logging.getLogger(__name__)


def deploy_trained(services: Services) -> None:
    """One look at every fine-tune that asked to be deployed."""
    for finetune_id, deploy_job in services.finetunes.awaiting_deployment().items():
        record = services.finetunes.get(finetune_id)
        status = services.jobs.get(record.job_id).status if record else JobStatus.FAILED
        if record is None or not status.is_over:
            continue
        words = _step(services, record, deploy_job) if status is JobStatus.FINISHED else ""
        if words is not None:
            log.info("fine-tune %s: %s", finetune_id, words)
            services.finetunes.deployment_over(finetune_id, words)


def _step(services: Services, record: Finetune, deploy_job: str) -> str | None:
    """Deploy the adapter if it can be. How it came out, or None while it is on its way."""
    adapter = record.adapter_id
    deployment = services.deployments.get(LLM_DEPLOYMENT)
    if deployment is None or deployment.desired is None:
        return f"{adapter} is not deployed, since nothing is: POST /v1/deploy/ deploys it with its base"
    desired = deployment.desired
    if desired.model_id != record.model_id:
        return f"{adapter} is not deployed: {desired.model_id} is, and its base is {record.model_id}"
    if deployment.serving != desired:
        return None
    if adapter in desired.adapter_ids:
        return f"{adapter} is deployed"
    if deploy_job:
        return f"{adapter} could not be deployed: {deployment.failure or 'another deployment came between'}"
    try:
        services.finetunes.deployment_begun(record.id, deploy_beside(services, desired, adapter).id)
    except Superseded:
        return None  # somebody deployed just now: look again
    except HearthError as refusal:
        return f"{adapter} is not deployed: {refusal.detail}"
    return None
