"""Errors as a client sees them: RFC 9457 problems on the control plane, OpenAI's object on the token plane."""

from collections.abc import Iterator

from pydantic import BaseModel, Field


class Fault(BaseModel):
    """One thing wrong with a request: where, and why."""

    loc: list[str | int] = Field(description='where: ["body", "model_id"], or ["line", 12, "messages"]')
    msg: str
    type: str = "value_error"


class Problem(BaseModel):
    """An RFC 9457 problem document, media type application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None


class HearthError(Exception):
    """Something a client can be told. `status` is the HTTP status it maps to; the message says what to do."""

    status = 500

    def __init__(
        self,
        detail: str,
        *,
        faults: list[Fault] | None = None,
        retry_after: int | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = faults
        self.retry_after = retry_after
        self.param = param  # these two only OpenAI's error object shows
        self.code = code


class BadRequest(HearthError):
    """The request cannot be read."""

    status = 400


class Forbidden(HearthError):
    """It is there, but not for the one who asks."""

    status = 403


class NotFound(HearthError):
    """There is no such thing."""

    status = 404


class Conflict(HearthError):
    """The state of things forbids it for now."""

    status = 409


class TooLarge(HearthError):
    """More than is taken."""

    status = 413


class Invalid(HearthError):
    """The request can be read but asks for what cannot be."""

    status = 422


class Unavailable(HearthError):
    """A part that this needs is away; try again."""

    status = 503


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from or while handling, and so on: libraries wrap the system's own errors."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
