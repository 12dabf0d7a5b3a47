"""Routes that belong to no record: the machine's figures, and what the hub has."""

from typing import Annotated

from fastapi import APIRouter, Query
from hearth_contracts.models import HubModel
from hearth_contracts.system import SystemReport

from hearth_management import models, system
from hearth_management.api.answers import problems
from hearth_management.services import Services


def system_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter()

    @router.get("/system", tags=["System"], summary="Memory, disk, and what waits in the queues", responses=problems())
    def look() -> SystemReport:
        return system.look(services)

    @router.get(
        "/hub/models", tags=["Models"], summary="Search the hub, most downloaded first", responses=problems(409, 422)
    )
    def search(
        text: Annotated[str, Query(alias="search", min_length=2, max_length=96, description="words of their names")],
        limit: Annotated[int, Query(ge=1, le=50)] = 10,
    ) -> list[HubModel]:
        return models.search_hub(services, text, limit)

    return router
