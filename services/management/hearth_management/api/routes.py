"""Management's routes. Each hands over to the module that knows; every path is written without its last slash."""

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from hearth_contracts.deploy import Deployed, DeployRequest, DeployStatus
from hearth_contracts.errors import NotFound
from hearth_contracts.finetune import FinetuneRequest, FinetuneStatus
from hearth_contracts.jobs import Job
from hearth_contracts.models import ImportRequest, ModelEntry
from hearth_contracts.names import is_record_id
from hearth_jobs.store import JobMissing

from hearth_management import deploy, finetune, models
from hearth_management.services import Services

LOG_TAIL_BYTES = 256 * 1024


def routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1")
    router.include_router(_models(services))
    router.include_router(_deploy(services))
    router.include_router(_jobs(services))
    router.include_router(_finetune(services))
    return router


def _models(services: Services) -> APIRouter:
    router = APIRouter(prefix="/models", tags=["Models"])

    @router.get("", summary="List models available for deploy and finetune")
    def list_all() -> list[ModelEntry]:
        return models.entries(services)

    @router.post("/add", summary="Download a model from Hugging Face")
    def add(model_id: str = Query(description="the model's id on the hub, e.g. openchat/openchat-3.5-0106")) -> Job:
        return models.add(services, model_id)

    @router.post("/import", summary="Take a model from a folder under HEARTH_HOME/imports")
    def take(request: ImportRequest) -> Job:
        return models.add_from_folder(services, request)

    @router.delete("/{model_id:path}", status_code=204, summary="Delete a base model or an adapter")
    def remove(model_id: str) -> None:
        models.remove(services, model_id)

    return router


def _deploy(services: Services) -> APIRouter:
    router = APIRouter(prefix="/deploy", tags=["Deploy"])

    @router.get("", summary="Get currently deployed model")
    def deployed() -> Deployed:
        return deploy.deployed(services)

    @router.post("", summary="Deploy model and adapters for inference")
    def begin(request: DeployRequest) -> Job:
        return deploy.deploy(services, request)

    @router.get("/status", summary="Get status of deployed model")
    def status() -> DeployStatus:
        return deploy.status(services)

    @router.post("/interrupt", summary="Undeploy currently deployed model")
    def interrupt() -> Job:
        return deploy.undeploy(services)

    return router


def _jobs(services: Services) -> APIRouter:
    router = APIRouter(prefix="/jobs", tags=["Jobs"])

    def known(job_id: str) -> str:
        if not is_record_id(job_id):
            raise NotFound(f"there is no job {job_id!r}")
        return job_id

    @router.get("", summary="Get all jobs with statuses, newest first")
    def list_all() -> list[Job]:
        return services.jobs.all()

    @router.get("/{job_id}/status", summary="Get last status for the job")
    def status(job_id: str) -> Job:
        try:
            return services.jobs.get(known(job_id))
        except JobMissing:
            raise NotFound(f"there is no job {job_id!r}") from None

    @router.post("/{job_id}/interrupt", summary="Interrupt the job")
    def interrupt(job_id: str) -> Job:
        try:
            return deploy.interrupt_job(services, known(job_id))
        except JobMissing:
            raise NotFound(f"there is no job {job_id!r}") from None

    @router.get("/{job_id}/logs", summary="The end of the job's log", response_class=PlainTextResponse)
    def logs(job_id: str) -> PlainTextResponse:
        status(job_id)
        path = services.home.job_log(job_id)
        if not path.exists():
            return PlainTextResponse("")
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return PlainTextResponse(file.read().decode(errors="replace"))

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
