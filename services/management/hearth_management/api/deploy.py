"""The reference's routes of deploying: the deployment named `default`."""

from fastapi import APIRouter
from hearth_contracts.deploy import Deployed, DeployRequest, DeployStatus
from hearth_contracts.jobs import Job

from hearth_management import deploy
from hearth_management.api.once import IdempotencyKey
from hearth_management.services import Services


def deploy_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/deploy", tags=["Deploy"])

    @router.get("", summary="Get currently deployed model")
    def deployed() -> Deployed:
        return deploy.deployed(services)

    @router.post("", summary="Deploy model and adapters for inference")
    def begin(request: DeployRequest, key: IdempotencyKey = None) -> Job:
        return services.idempotency.once(
            key,
            "POST /v1/deploy",
            request.model_dump_json(),
            lambda record: deploy.deploy(services, request, record),
        )

    @router.get("/status", summary="Get status of deployed model")
    def status() -> DeployStatus:
        return deploy.status(services)

    @router.post("/interrupt", summary="Undeploy currently deployed model")
    def interrupt() -> Job:
        return deploy.undeploy(services)

    return router
