"""The routes of fine-tuning."""

from fastapi import APIRouter
from hearth_contracts.errors import NotFound
from hearth_contracts.finetune import FinetunePlan, FinetuneRequest, FinetuneStatus
from hearth_contracts.jobs import Job
from hearth_contracts.models import ModelEntry
from hearth_contracts.names import is_record_id

from hearth_management import finetune, models
from hearth_management.services import Services


def finetune_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/finetune", tags=["Finetuning"])

    def known(finetune_id: str) -> str:
        if not is_record_id(finetune_id):
            raise NotFound(f"there is no fine-tune {finetune_id!r}; GET /v1/finetune/ lists what there is")
        return finetune_id

    @router.get("/models", summary="List all models available for finetuning")
    def list_models() -> list[ModelEntry]:
        return models.finetunable(services)

    @router.get("", summary="List all fine-tunes, newest first")
    def list_all() -> list[FinetuneStatus]:
        return finetune.list_all(services)

    @router.post("", summary="Finetune adapter on dataset")
    def begin(request: FinetuneRequest) -> Job:
        return finetune.begin(services, request)

    @router.post("/plan", summary="Show every setting that such a fine-tune would have; nothing begins")
    def plan(request: FinetuneRequest) -> FinetunePlan:
        return finetune.plan(services, request)

    @router.get("/status", summary="Get status of current finetuning")
    def status() -> FinetuneStatus:
        return finetune.latest(services)

    @router.post("/interrupt", summary="Interrupt current finetuning")
    def interrupt() -> Job:
        return finetune.interrupt(services)

    @router.get("/{finetune_id}", summary="Get a fine-tune, its settings and its latest job")
    def one(finetune_id: str) -> FinetuneStatus:
        return finetune.get(services, known(finetune_id))

    @router.post("/{finetune_id}/resume", summary="Go on with a killed or failed fine-tune from its last checkpoint")
    def resume(finetune_id: str) -> Job:
        return finetune.resume(services, known(finetune_id))

    return router
