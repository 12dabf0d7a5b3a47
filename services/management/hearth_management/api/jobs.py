"""The routes of jobs."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse
from hearth_contracts.base import Timestamp
from hearth_contracts.errors import Fault, Invalid, NotFound
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.names import is_record_id
from hearth_jobs.listing import CursorUnknown, Wanted, list_jobs
from hearth_jobs.store import JobMissing

from hearth_management import deploy
from hearth_management.api.answers import problems
from hearth_management.logs import follow, tail
from hearth_management.services import Services

EVENT_STREAM = "text/event-stream"
LIMIT_MOST = 1000

_LOG_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}, EVENT_STREAM: {}},
        "description": "The end of the log. Followed: an event a line, whose id is the offset in bytes after it, to be "
        "sent back as Last-Event-ID; at last an event named `end` with the job.",
    }
}
_LIST_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Link": {
                "schema": {"type": "string"},
                "description": 'where more than `limit` match: `<?cursor=...>; rel="next"`, relative to the request',
            }
        }
    }
}


def job_routes(services: Services) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/jobs", tags=["Jobs"])

    def known(job_id: str) -> Job:
        try:
            if is_record_id(job_id):
                return services.jobs.get(job_id)
        except JobMissing:
            pass
        raise NotFound(f"there is no job {job_id!r}; GET /v1/jobs/ lists what there is")

    @router.get("", summary="Get all jobs with statuses, newest first", responses=_LIST_ANSWERS | problems(422))
    def list_all(
        request: Request,
        response: Response,
        kind: Annotated[list[JobKind], Query(default_factory=list, description="only these kinds; may be repeated")],
        status: Annotated[list[JobStatus], Query(default_factory=list, description="only these; may be repeated")],
        since: Annotated[Timestamp | None, Query(description="only jobs created then or later; UTC")] = None,
        limit: Annotated[int | None, Query(ge=1, le=LIMIT_MOST, description="at most so many; all without it")] = None,
        cursor: Annotated[str | None, Query(description="the id of the last job of the page before this one")] = None,
    ) -> list[Job]:
        wanted = Wanted(frozenset(kind), frozenset(status), since)
        try:
            page = list_jobs(services.jobs, wanted, limit, cursor)
        except CursorUnknown:
            fault = Fault(loc=["query", "cursor"], msg="no job has this id")
            raise Invalid(f"there is no job {cursor!r} to go on after", faults=[fault]) from None
        if page.next:
            kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            response.headers["Link"] = f'<?{urlencode([*kept, ("cursor", page.next)])}>; rel="next"'
        return page.jobs

    @router.get("/{job_id}/status", summary="Get last status for the job", responses=problems(404))
    def status(job_id: str) -> Job:
        return known(job_id)

    @router.post("/{job_id}/interrupt", summary="Interrupt the job", responses=problems(404))
    def interrupt(job_id: str) -> Job:
        return deploy.interrupt_job(services, known(job_id).id)

    @router.get(
        "/{job_id}/logs",
        summary="The end of the job's log, or its lines as they come",
        response_class=Response,
        responses=_LOG_ANSWERS | problems(404, 422),
    )
    def logs(
        job_id: str,
        stay: Annotated[bool, Query(alias="follow", description="send the lines as they come")] = False,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[str | None, Header(description="the id of the last event that was seen")] = None,
    ) -> Response:
        job = known(job_id)
        if stay or EVENT_STREAM in accept:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return EventSourceResponse(follow(services, job.id, last_event_id), headers=headers)
        return PlainTextResponse(tail(services.home.job_log(job.id)))

    return router
