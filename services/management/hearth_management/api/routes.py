"""Management's routes. Each hands over to the module that knows; every path is written without its last slash."""

from fastapi import APIRouter

from hearth_management.api.access import access_routes
from hearth_management.api.deploy import deploy_routes
from hearth_management.api.fine_tuning import fine_tuning_routes
from hearth_management.api.finetune import finetune_routes
from hearth_management.api.jobs import job_routes
from hearth_management.api.models import model_routes
from hearth_management.api.system import system_routes
from hearth_management.services import Services


def routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1")
    router.include_router(model_routes(services))
    router.include_router(deploy_routes(services))
    router.include_router(job_routes(services))
    router.include_router(finetune_routes(services))
    router.include_router(access_routes(services))
    router.include_router(system_routes(services))
    router.include_router(fine_tuning_routes(services))
    return router
