"""What can go wrong, each with what happened, where, and what to do."""

import json

import httpx
from hearth_contracts.errors import Fault, Problem
from hearth_contracts.jobs import Job, JobStatus
from pydantic import ValidationError

SHOWN_FAULTS = 20


class HearthClientError(Exception):
    """All that this client raises of its own."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where  # the request, and the fields or lines at fault; may be empty
        self.remedy = remedy  # what to do; may be empty where `what` says it

    def __str__(self) -> str:
        """All three, a line each."""
        return "\n".join(filter(None, (self.what, self.where, self.remedy)))


class NotReached(HearthClientError):
    """No answer came: nobody listens there, or the connection broke and did not come back."""


class UnexpectedReply(HearthClientError):
    """What answered is not Hearth, or one whose replies this client cannot read."""


class JobFailed(HearthClientError):
    """A job that was waited for is FAILED or KILLED."""

    def __init__(self, job: Job) -> None:
        what = job.error if job.status is JobStatus.FAILED and job.error else f"it is {job.status}"
        super().__init__(f"{job.name}: {what}", where=f"job {job.id}", remedy=f"hearth jobs logs {job.id} has its log")
        self.job = job


class Superseded(HearthClientError):
    """A deployment that was waited for was replaced or undeployed meanwhile."""


class Refused(HearthClientError):
    """Hearth answered with an error. `status` is HTTP's; `faults` name fields or lines."""

    def __init__(self, status: int, what: str, where: str, remedy: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        self.faults = faults
        self.request_id = ""
        self.retry_after: float | None = None  # seconds


class Unauthorized(Refused):
    """No valid API key came with the request."""


class Forbidden(Refused):
    """Not for this key."""


class NotFound(Refused):
    """There is no such thing."""


class Conflict(Refused):
    """The state of things forbids it for now."""


class TooLarge(Refused):
    """More than is taken."""


class Invalid(Refused):
    """It can be read but asks for what cannot be; `faults` says where."""


class Limited(Refused):
    """The key's allowance is used up for now."""


class Unavailable(Refused):
    """A part that this needs is away."""


_KINDS: dict[int, type[Refused]] = {
    400: Invalid, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 413: TooLarge, 422: Invalid,
    429: Limited, 502: Unavailable, 503: Unavailable, 504: Unavailable,
}  # fmt: skip

_REMEDIES: dict[type[Refused], str] = {
    Unauthorized: "set HEARTH_API_KEY, or pass api_key, to a key that is not revoked or expired",
    Forbidden: "use an API key with the role admin",
    Limited: "ask again later, or raise the key's limits",
    Unavailable: "ask again in a while; `hearth doctor` on the platform's machine says what is wrong",
}


def refusal(reply: httpx.Response) -> Refused:
    """The exception for a reply with an error status, whose body has been read."""
    asked = f"{reply.request.method} {reply.request.url.path}"
    try:
        problem = Problem.model_validate_json(reply.content)
        what, faults = problem.detail, tuple(problem.errors or ())
    except ValidationError:
        what, faults = _words(reply), ()
    kind = _KINDS.get(reply.status_code, Refused)
    places = [f"{_place(fault)}: {fault.msg}" for fault in faults]
    if len(places) > SHOWN_FAULTS:
        places[SHOWN_FAULTS:] = [f"... and {len(places) - SHOWN_FAULTS} more"]
    error = kind(reply.status_code, what, "\n".join([asked, *places]), _REMEDIES.get(kind, ""), faults)
    error.request_id = reply.headers.get("x-request-id", "")
    after = reply.headers.get("retry-after", "")
    error.retry_after = float(after) if after.isdigit() else None
    return error


def _place(fault: Fault) -> str:
    """`line 12 messages` of a file, `body.model_id` of a request."""
    return (" " if fault.loc[:1] == ["line"] else ".").join(map(str, fault.loc))


def _words(reply: httpx.Response) -> str:
    """What a reply that is no problem document says: OpenAI's error object, or whatever stands before us."""
    try:
        return str(json.loads(reply.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status_code} {reply.reason_phrase}: {reply.text[:200]}".rstrip(": ")
