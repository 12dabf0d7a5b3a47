"""What OpenAI's API calls things: its error object, its pages, and its ids for our datasets and fine-tunes."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from hearth_contracts.base import Frozen
from hearth_contracts.names import is_record_id

FILE_PREFIX = "file-"
"""A file is a dataset; its id is the dataset's behind this."""

CONTROL_ROUTES = ("files", "fine_tuning")
"""First segments of OpenAI's routes that are answered by our services and not by an engine."""


class OpenAIFault(BaseModel):
    """What OpenAI's error object holds."""

    message: str
    type: str
    param: str | None = None
    code: str | int | None = None  # vLLM repeats the status there


class OpenAIError(BaseModel):
    """The body of every error under OpenAI's routes."""

    error: OpenAIFault


def openai_error(status: int, message: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """That body, for an HTTP status."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return OpenAIError(error=OpenAIFault(message=message, type=kind, param=param, code=code)).model_dump()


def is_openai_control(path: str) -> bool:
    """Whether a service's path, `/v1/...`, is one of OpenAI's routes and answers with OpenAI's errors."""
    return any(path == f"/v1/{route}" or path.startswith(f"/v1/{route}/") for route in CONTROL_ROUTES)


def file_id(dataset_id: str) -> str:
    """What OpenAI's routes call a dataset."""
    return FILE_PREFIX + dataset_id


def dataset_id_of(file: str) -> str | None:
    """The dataset that a file id means, or None for what cannot be one."""
    dataset_id = file.removeprefix(FILE_PREFIX)
    return dataset_id if file.startswith(FILE_PREFIX) and is_record_id(dataset_id) else None


Item = TypeVar("Item", bound=Frozen)


class Page(Frozen, Generic[Item]):
    """OpenAI's lists: a page of them, and whether there are more behind it."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    has_more: bool
    first_id: str | None = Field(default=None, description="the id of the first entry")
    last_id: str | None = Field(default=None, description="the id of the last one: `after` for the next page")


def page_of(items: list[Item], ids: list[str], *, after: str | None, limit: int) -> Page[Item]:
    """The page of at most `limit` items behind the one with the id `after`; an unknown `after` gives an empty page."""
    cut = page_cut(ids, after=after, limit=limit)
    return page_at(items[cut], ids, cut)


def page_cut(ids: list[str], *, after: str | None, limit: int) -> slice:
    """Which of all are on that page."""
    start = 0 if after is None else (ids.index(after) + 1 if after in ids else len(ids))
    return slice(start, start + limit)


def page_at(items: list[Item], ids: list[str], cut: slice) -> Page[Item]:
    """The page that shows `items`, which are the part `cut` of all."""
    shown = ids[cut]
    return Page(
        data=tuple(items),
        has_more=cut.stop < len(ids),
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
    )
