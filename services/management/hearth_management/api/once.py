"""The `Idempotency-Key` header, for every POST that begins a job."""

from typing import Annotated

from fastapi import Header

IdempotencyKey = Annotated[
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
"""What a route takes as `key` and gives to `services.idempotency.once`."""
