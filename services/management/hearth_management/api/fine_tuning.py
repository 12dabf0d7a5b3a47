"""OpenAI's fine-tuning routes, for `client.fine_tuning.jobs` of any OpenAI client."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from hearth_contracts.fine_tuning import FineTuningJob, JobCheckpoint, JobEvent, JobRequest
from hearth_contracts.openai import OpenAIError, Page, page_of

from hearth_management import openai_finetuning as jobs
from hearth_management.services import Services

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": OpenAIError, "description": "OpenAI's error object"},
    "5XX": {"model": OpenAIError, "description": "OpenAI's error object"},
}
MOST_LISTED = 100
FILTER = re.compile(r"metadata\[(.+)\]")

After = Annotated[str | None, Query(description="the last id of the page before")]
JobLimit = Annotated[int, Query(ge=1, le=MOST_LISTED)]


def metadata_filter(request: Request) -> dict[str, str]:
    """OpenAI's way to ask for jobs by their metadata: `metadata[key]=value`."""
    pairs = [(FILTER.fullmatch(name), value) for name, value in request.query_params.items()]
    return {found[1]: value for found, value in pairs if found}


def fine_tuning_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/fine_tuning/jobs", tags=["OpenAI-like API"], responses=ERRORS)

    @router.post("", summary="Fine-tune a model on a file")
    def create(request: JobRequest) -> FineTuningJob:
        return jobs.create(services, request)

    @router.get("", summary="List fine-tuning jobs, newest first")
    def list_all(
        metadata: Annotated[dict[str, str], Depends(metadata_filter)], after: After = None, limit: JobLimit = 20
    ) -> Page[FineTuningJob]:
        found = jobs.list_all(services, metadata)
        return page_of(found, [job.id for job in found], after=after, limit=limit)

    @router.get("/{fine_tuning_job_id}", summary="Get a fine-tuning job")
    def retrieve(fine_tuning_job_id: str) -> FineTuningJob:
        return jobs.show(services, jobs.find(services, fine_tuning_job_id))

    @router.post("/{fine_tuning_job_id}/cancel", summary="Cancel a fine-tuning job")
    def cancel(fine_tuning_job_id: str) -> FineTuningJob:
        return jobs.cancel(services, fine_tuning_job_id)

    @router.post("/{fine_tuning_job_id}/pause", summary="Stop a fine-tuning job at a checkpoint: the same as to cancel")
    def pause(fine_tuning_job_id: str) -> FineTuningJob:
        return jobs.cancel(services, fine_tuning_job_id)

    @router.post("/{fine_tuning_job_id}/resume", summary="Go on with a job that was stopped or has failed")
    def resume(fine_tuning_job_id: str) -> FineTuningJob:
        return jobs.resume(services, fine_tuning_job_id)

    @router.get("/{fine_tuning_job_id}/events", summary="List a fine-tuning job's events, newest first")
    def events(fine_tuning_job_id: str, after: After = None, limit: JobLimit = 20) -> Page[JobEvent]:
        found = jobs.events(services, fine_tuning_job_id)
        return page_of(found, [event.id for event in found], after=after, limit=limit)

    @router.get("/{fine_tuning_job_id}/checkpoints", summary="List a fine-tuning job's checkpoints")
    def checkpoints(fine_tuning_job_id: str, after: After = None, limit: JobLimit = 10) -> Page[JobCheckpoint]:
        found = jobs.checkpoints(services, fine_tuning_job_id)
        return page_of(found, [checkpoint.id for checkpoint in found], after=after, limit=limit)

    return router
