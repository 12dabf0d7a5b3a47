"""What is asked of Hearth, as data: no network here, so one description serves the sync and the async client.

A single call is a `Request`. A call of several steps is a generator of `Step`s that gets each step's reply back:

    def wait(...) -> Steps[Job]:
        job = yield from ask(get(path, Job))
        yield Pause(0.5)
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter

T = TypeVar("T")
U = TypeVar("U")

Params = Mapping[str, Any]
Parse = Callable[[bytes], T]

READ_SECONDS = 60.0


@dataclass(frozen=True)
class Request(Generic[T]):
    """One HTTP request under `/api/v1`, and how its reply is read."""

    method: str
    path: str  # below /api/v1, with its last slash
    parse: Parse[T]
    params: Params = field(default_factory=dict)  # what is None is left out
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False  # asked twice, it does no more than asked once
    patience: float | None = None  # seconds to ask again for while Hearth is out of reach; None: the client's
    read_seconds: float = READ_SECONDS  # silence after which the connection counts as dead
    sink: Callable[[bytes, int], None] | None = None  # takes the body as it comes, with the HTTP status

    def outlasting(self, seconds: float) -> "Request[T]":
        """The same request, asked again for so long while Hearth is out of reach."""
        return replace(self, patience=seconds)

    def map(self, then: Callable[[T], U]) -> "Request[U]":
        """The same request, its reply handed to `then`."""
        parse = self.parse
        fields: dict[str, Any] = {**vars(self), "parse": lambda body: then(parse(body))}
        return Request(**fields)


@dataclass(frozen=True)
class Pause:
    """Wait before the next step."""

    seconds: float


Step = Request[Any] | Pause
Steps = Generator[Step, Any, T]


@dataclass(frozen=True)
class Follow(Generic[T]):
    """An event stream that is taken up again where it broke off. Ends with the event named `end`."""

    path: str
    read: Parse[T]
    read_end: Parse[T] | None = None  # the last event's data as one more item; None: it is not one
    params: Params = field(default_factory=dict)


def ask(request: Request[T]) -> Steps[T]:
    """A request as a step, with its reply's type kept."""
    return cast(T, (yield request))


def reading(shape: type[T] | Any) -> Parse[T]:
    """A parser of JSON into a contract. Fields that this version does not know are left out, so a newer platform is
    understood. Raises pydantic's ValidationError."""
    adapter: TypeAdapter[T] = TypeAdapter(shape)
    return lambda body: adapter.validate_json(body, extra="ignore")


def nothing(_body: bytes) -> None:
    """The parser of replies without content."""


def text(body: bytes) -> str:
    """The parser of plain text."""
    return body.decode(errors="replace")


def get(path: str, shape: type[T], **params: Any) -> Request[T]:
    """Read something."""
    return Request("GET", path, reading(shape), params, repeatable=True)


def post(path: str, shape: type[T], body: BaseModel | None = None, *, repeatable: bool = False) -> Request[T]:
    """Change something."""
    return Request("POST", path, reading(shape), json=dumped(body), repeatable=repeatable)


def begin(method: str, path: str, shape: type[T], body: BaseModel | None = None, **params: Any) -> Request[T]:
    """Begin a job: with an `Idempotency-Key`, so that asking again after a broken connection begins no second one."""
    headers = {"Idempotency-Key": str(uuid4())}
    return Request(method, path, reading(shape), params, dumped(body), headers=headers, repeatable=True)


def delete(path: str) -> Request[None]:
    """Remove something."""
    return Request("DELETE", path, nothing)


def dumped(body: BaseModel | None) -> Any:
    """A body as JSON, without what nobody set: the platform's defaults are its own."""
    return None if body is None else body.model_dump(mode="json", exclude_unset=True)
