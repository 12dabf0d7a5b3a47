"""Redis answers in bytes, since RQ needs the same connection raw; here they become text."""

from typing import Any


def text(value: Any) -> str:
    """One value of a reply as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def fields_of(reply: Any) -> dict[str, str]:
    """A hash as text."""
    return {text(name): text(value) for name, value in reply.items()}
