"""The audit trail: what was asked to be changed, by whom, and what became of it.

Each entry is a log line at once, and in Redis with the keeper's next round. While Redis is away the newest ones wait.
"""

import logging
from collections import deque

from hearth_contracts.access import AuditEntry
from hearth_contracts.base import now
from starlette.requests import Request

from hearth_gateway.door import Caller

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
LONGEST_PATH = 1000


class AuditTrail:
    """Entries on their way to Redis. Used by the event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[AuditEntry] = deque(maxlen=MOST_WAITING)

    def record(self, caller: Caller, request: Request, request_id: str, status: int) -> None:
        """Note a request and the status of its answer."""
        query = f"?{request.url.query}" if request.url.query else ""
        entry = AuditEntry(
            at=now(),
            key_id=caller.key_id,
            key_name=caller.name,
            method=request.method,
            path=(request.url.path + query)[:LONGEST_PATH],
            status=status,
            request_id=request_id,
            address=request.client.host if request.client else "",
        )
        log.info("audit", extra={"audit": entry.model_dump(mode="json")})
        self._waiting.append(entry)

    def take(self) -> list[AuditEntry]:
        """What is to be brought to Redis; `put_back` when that failed."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def put_back(self, taken: list[AuditEntry]) -> None:
        """They wait again, before what came since; the oldest go when there are too many."""
        self._waiting = deque([*taken, *self._waiting], maxlen=MOST_WAITING)
