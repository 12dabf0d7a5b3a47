"""Who asks: the API key that the gateway has checked, as it tells the services behind it in headers of its own.

The gateway strips these headers from what clients send. A service listens where only the gateway and whoever runs the
machine can reach it, so a request without them comes from the latter, who may do everything.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from hearth_contracts.access import Role
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

KEY_HEADER = "x-hearth-key-id"
ROLE_HEADER = "x-hearth-role"


@dataclass(frozen=True)
class Asker:
    """Who asks."""

    key_id: str | None  # None: no key was needed
    role: Role

    def may_use(self, owner: str | None) -> bool:
        """Whether what the key `owner` made is for this one too."""
        return self.role is Role.ADMIN or (owner is not None and owner == self.key_id)


OPERATOR = Asker(None, Role.ADMIN)
_asker: ContextVar[Asker | None] = ContextVar("asker", default=None)


def asker() -> Asker:
    """Who sent the HTTP request being answered. The stores of what has an owner ask, so that no route can forget to."""
    return _asker.get() or OPERATOR


class AskerMiddleware:
    """Set it for this request, and for the threads that answer it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        role = headers.get(ROLE_HEADER, Role.ADMIN)
        found = Asker(headers.get(KEY_HEADER), Role.ADMIN if role == Role.ADMIN else Role.USER)
        token = _asker.set(found)
        try:
            with bound_contextvars(**({"key_id": found.key_id} if found.key_id else {})):
                await self.app(scope, receive, send)
        finally:
            _asker.reset(token)
