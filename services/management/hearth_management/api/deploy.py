"""The routes of deploying: the reference's, for the deployment named `default`, and those by name."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from hearth_contracts.deploy import Deployed, DeploymentChange, DeployRequest, DeployStatus, NamedDeployment
from hearth_contracts.fit import FitReport
from hearth_contracts.jobs import Job
from hearth_jobs.deployments import LLM_DEPLOYMENT

from hearth_management import deploy
from hearth_management.api.answers import problems
from hearth_management.api.once import IdempotencyKey
from hearth_management.services import Services

DryRun = Annotated[bool, Query(description="begin nothing; answer what it would take")]
Name = Annotated[str, Path(description="`default` (the LLM), `embedding` or `rerank`")]


def deploy_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(tags=["Deploy"])

    def begin(name: str, route: str, request: DeployRequest, key: str | None, dry_run: bool) -> Job | FitReport:
        if dry_run:
            return deploy.estimate(services, request, name)
        return services.idempotency.once(
            key, route, request.model_dump_json(), lambda record: deploy.deploy(services, request, record, name)
        )

    @router.get("/deploy", summary="Get currently deployed model", responses=problems(404))
    def deployed() -> Deployed:
        return deploy.deployed(services)

    @router.post("/deploy", summary="Deploy model and adapters for inference", responses=problems(404, 409, 422))
    def put_default(request: DeployRequest, key: IdempotencyKey, dry_run: DryRun = False) -> Job | FitReport:
        return begin(LLM_DEPLOYMENT, "POST /v1/deploy", request, key, dry_run)

    @router.get("/deploy/status", summary="Get status of deployed model", responses=problems(404))
    def status() -> DeployStatus:
        return deploy.status(services)

    @router.post("/deploy/interrupt", summary="Undeploy currently deployed model", responses=problems(404))
    def interrupt() -> Job:
        return deploy.undeploy(services)

    @router.get("/deployments", summary="List what can be deployed, and what is: LLM, embeddings, reranker")
    def list_all() -> list[NamedDeployment]:
        return deploy.list_all(services)

    @router.get("/deployments/{name}", summary="Get one deployment", responses=problems(404))
    def one(name: Name) -> NamedDeployment:
        return deploy.named(services, name)

    @router.put("/deployments/{name}", summary="Deploy a model under a name", responses=problems(404, 409, 422))
    def put(name: Name, request: DeployRequest, key: IdempotencyKey, dry_run: DryRun = False) -> Job | FitReport:
        return begin(name, f"PUT /v1/deployments/{name}", request, key, dry_run)

    @router.patch(
        "/deployments/{name}",
        summary="Change how many engines serve it, and whether one always does",
        responses=problems(404, 422),
    )
    def change(name: Name, wanted: DeploymentChange) -> NamedDeployment:
        return deploy.change(services, name, wanted)

    @router.delete("/deployments/{name}", summary="Undeploy", responses=problems(404))
    def remove(name: Name) -> Job:
        return deploy.undeploy(services, name)

    return router
