"""What all contracts share: frozen models, and times as the reference writes them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer


class Frozen(BaseModel):
    """A value: equal by content, never changed in place, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _to_utc(value: object) -> object:
    """Read a time without an offset as UTC, which is how `_to_text` writes it. A number is none: of what unit?"""
    if isinstance(value, int | float):
        raise ValueError("a time is text, e.g. 2024-03-21T09:58:29")
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _to_text(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


Timestamp = Annotated[datetime, BeforeValidator(_to_utc), PlainSerializer(_to_text, return_type=str)]
"""A moment in UTC, written without an offset as in the reference: `2024-03-21T09:58:29.846708`."""


def now() -> datetime:
    """The current moment, UTC."""
    return datetime.now(UTC)
