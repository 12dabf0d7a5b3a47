"""Management's routes. Each hands over to the module that knows; every path is written without its last slash."""

from fastapi import APIRouter
from hearth_contracts.finetune import FinetuneRequest, FinetuneStatus
from hearth_contracts.jobs import Job
from hearth_contracts.models import ModelEntry

from hearth_management import finetune, models
from hearth_management.api.access import access_routes
from hearth_management.api.deploy import deploy_routes
from hearth_management.api.jobs import job_routes
from hearth_management.api.models import model_routes
from hearth_management.services import Services


def routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1")
    router.include_router(model_routes(services))
    router.include_router(deploy_routes(services))
    router.include_router(job_routes(services))
    router.include_router(_finetune(services))
    router.include_router(access_routes(services))
    return router


def _finetune(services: Services) -> APIRouter:
    router = APIRouter(prefix="/finetune", tags=["Finetuning"])

    @router.get("/models", summary="List all models available for finetuning")
    def list_models() -> list[ModelEntry]:
        return models.finetunable(services)

    @router.post("", summary="Finetune adapter on dataset")
    def begin(request: FinetuneRequest) -> Job:
        return finetune.begin(services, request)

    @router.get("/status", summary="Get status of current finetuning")
    def status() -> FinetuneStatus:
        return finetune.latest(services)

    @router.post("/interrupt", summary="Interrupt current finetuning")
    def interrupt() -> Job:
        return finetune.interrupt(services)

    return router
