"""The `Idempotency-Key` header, for every POST that begins a job."""

from typing import Annotated

from fastapi import Depends, Header
from hearth_web.asker import asker

_Header = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Any text of your own, e.g. a UUID. The same request with the same key within 24 hours answers the "
        "job that the first one began. Another request with that key is refused with 422.",
    ),
]


def _of_asker(key: _Header = None) -> str | None:
    """The key as this asker's own: two who chose the same words do not meet."""
    return None if key is None else f"{asker().key_id or ''}\n{key}"  # neither of them holds a newline


IdempotencyKey = Annotated[str | None, Depends(_of_asker)]
"""What a route takes as `key` and gives to `services.idempotency.once`."""
