"""The routes of models."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from hearth_contracts.fit import FitReport
from hearth_contracts.jobs import Job
from hearth_contracts.models import ImportRequest, MergeRequest, ModelEntry

from hearth_management import archive, models
from hearth_management.api.answers import problems
from hearth_management.api.deploy import DryRun
from hearth_management.api.once import IdempotencyKey
from hearth_management.merging import merge
from hearth_management.services import Services

TAR = "application/x-tar"


def model_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/models", tags=["Models"])

    @router.get("", summary="List models available for deploy and finetune", responses=problems())
    def list_all() -> list[ModelEntry]:
        return models.entries(services)

    @router.post("/add", summary="Download a model from Hugging Face", responses=problems(403, 404, 409, 422))
    def add(
        model_id: Annotated[str, Query(description="the model's id on the hub, e.g. openchat/openchat-3.5-0106")],
        key: IdempotencyKey,
        dry_run: DryRun = False,
    ) -> Job | FitReport:
        if dry_run:
            return models.estimate(services, model_id)
        return services.idempotency.once(
            key, "POST /v1/models/add", model_id, lambda record: models.add(services, model_id, record)
        )

    @router.post(
        "/import", summary="Take a model from a folder under HEARTH_HOME/imports", responses=problems(404, 409, 422)
    )
    def take(request: ImportRequest, key: IdempotencyKey) -> Job:
        return services.idempotency.once(
            key,
            "POST /v1/models/import",
            request.model_dump_json(),
            lambda record: models.add_from_folder(services, request, record),
        )

    @router.get(
        "/{adapter_id}/download",
        summary="Download an adapter as a tar",
        response_class=Response,
        responses=problems(404) | {200: {"content": {TAR: {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def download(adapter_id: str) -> Response:
        manifest = archive.require_adapter(services, adapter_id)
        headers = {
            "Content-Length": str(archive.tar_bytes(manifest)),
            "Content-Disposition": f'attachment; filename="{manifest.adapter_id}.tar"',
        }
        return StreamingResponse(archive.stream_tar(services.s3, manifest), media_type=TAR, headers=headers)

    @router.post(
        "/{adapter_id}/merge",
        summary="Merge an adapter into its base, as a new model",
        responses=problems(404, 409, 422),
    )
    def begin_merge(adapter_id: str, request: MergeRequest, key: IdempotencyKey) -> Job:
        body = f"{adapter_id}\n{request.model_dump_json()}"
        return services.idempotency.once(
            key, "POST /v1/models/merge", body, lambda record: merge(services, adapter_id, request, record)
        )

    @router.delete(
        "/{model_id:path}",
        status_code=204,
        summary="Delete a base model or an adapter",
        responses=problems(404, 409),
    )
    def remove(model_id: str) -> None:
        models.remove(services, model_id)

    return router
