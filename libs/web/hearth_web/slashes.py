"""Every path answers with and without its last slash, with no redirect, so that no body is lost."""

from starlette.types import ASGIApp, Receive, Scope, Send


class SlashMiddleware:
    """Take the last slash off the path before routing; routes are written without one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and len(path) > 1 and path.endswith("/"):
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await self.app(scope, receive, send)
