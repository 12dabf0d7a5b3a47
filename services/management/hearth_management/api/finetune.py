"""The routes of fine-tuning."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import EventSourceResponse
from hearth_contracts.datasets import TokenCount
from hearth_contracts.errors import NotFound
from hearth_contracts.finetune import FinetuneMetrics, FinetunePlan, FinetuneRequest, FinetuneStatus
from hearth_contracts.fit import FitReport
from hearth_contracts.jobs import Job
from hearth_contracts.models import ModelEntry
from hearth_contracts.names import is_record_id

from hearth_management import curves, finetune, models
from hearth_management.api.answers import problems
from hearth_management.api.deploy import DryRun
from hearth_management.api.once import IdempotencyKey
from hearth_management.picture import draw
from hearth_management.services import Services
from hearth_management.tokens import count_tokens

EVENT_STREAM = "text/event-stream"
SVG = "image/svg+xml"

_METRICS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": FinetuneMetrics,
        "content": {EVENT_STREAM: {}},
        "description": "The curve. Followed: an event a step, whose id is the step's number, to be sent back as "
        "Last-Event-ID; at last an event named `end` with the fine-tune.",
    }
}


def finetune_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/finetune", tags=["Finetuning"])

    def known(finetune_id: str) -> str:
        if not is_record_id(finetune_id):
            raise NotFound(finetune.UNKNOWN.format(finetune_id))
        return finetune_id

    @router.get("/models", summary="List all models available for finetuning")
    def list_models() -> list[ModelEntry]:
        return models.finetunable(services)

    @router.get("", summary="List all fine-tunes, newest first")
    def list_all() -> list[FinetuneStatus]:
        return finetune.list_all(services)

    @router.post("", summary="Finetune adapter on dataset", responses=problems(404, 409, 422))
    def begin(request: FinetuneRequest, key: IdempotencyKey, dry_run: DryRun = False) -> Job | FitReport:
        if dry_run:
            return finetune.estimate(services, request)
        return services.idempotency.once(
            key,
            "POST /v1/finetune",
            request.model_dump_json(),
            lambda record: finetune.begin(services, request, record),
        )

    @router.post(
        "/plan",
        summary="Show every setting that such a fine-tune would have; nothing begins",
        responses=problems(404, 422),
    )
    def plan(request: FinetuneRequest) -> FinetunePlan:
        return finetune.plan(services, request)

    @router.get("/tokens", summary="Count a dataset's tokens by a model's tokenizer", responses=problems(404, 422, 503))
    def tokens(model_id: str, dataset_id: str) -> TokenCount:
        return count_tokens(services, model_id, dataset_id)

    @router.get("/status", summary="Get status of current finetuning", responses=problems(404))
    def status() -> FinetuneStatus:
        return finetune.latest(services)

    @router.post("/interrupt", summary="Interrupt current finetuning", responses=problems(404))
    def interrupt() -> Job:
        return finetune.interrupt(services)

    @router.get("/{finetune_id}", summary="Get a fine-tune, its settings and its latest job", responses=problems(404))
    def one(finetune_id: str) -> FinetuneStatus:
        return finetune.get(services, known(finetune_id))

    @router.post(
        "/{finetune_id}/resume",
        summary="Go on with a killed or failed fine-tune from its last checkpoint",
        responses=problems(404, 409, 422),
    )
    def resume(finetune_id: str, key: IdempotencyKey) -> Job:
        return services.idempotency.once(
            key,
            "POST /v1/finetune/resume",
            finetune_id,
            lambda record: finetune.resume(services, known(finetune_id), record),
        )

    @router.get(
        "/{finetune_id}/metrics",
        summary="The training's curve, or its steps as they come",
        response_class=Response,
        responses=problems(404) | _METRICS_ANSWERS,
    )
    def metrics(
        finetune_id: str,
        after: Annotated[int, Query(ge=0, description="only what comes after this step")] = 0,
        stay: Annotated[bool, Query(alias="follow", description="send the steps as they come")] = False,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[str | None, Header(description="the id of the last event that was seen")] = None,
    ) -> Response:
        curve = curves.metrics(services, known(finetune_id), after)
        if stay or EVENT_STREAM in accept:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            events = curves.follow(services, curve.finetune_id, last_event_id or str(after))
            return EventSourceResponse(events, headers=headers)
        return Response(curve.model_dump_json(), media_type="application/json")

    @router.get(
        "/{finetune_id}/metrics.svg",
        summary="A picture of the training's curve",
        response_class=Response,
        responses=problems(404) | {200: {"content": {SVG: {"schema": {"type": "string"}}}}},
    )
    def picture(finetune_id: str) -> Response:
        record = finetune.get(services, known(finetune_id))
        points = services.finetunes.points(record.id)
        if not points:
            raise NotFound(f"fine-tune {record.id} has no curve yet: its first step is not done")
        return Response(draw(record.name, points), media_type=SVG)

    return router
