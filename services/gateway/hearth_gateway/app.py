"""The gateway's one ASGI app: it looks at the path and hands over to the token plane, the control plane or the docs."""

import asyncio
import gc
import logging
import re

from hearth_contracts.openai import CONTROL_ROUTES
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.store import JobStore
from hearth_telemetry import traces
from hearth_telemetry.metrics import CONTENT_TYPE, exposition
from hearth_web.errors import problem_response
from hearth_web.pulse import beating
from hearth_web.traced import TraceMiddleware
from redis import Redis
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from hearth_gateway import measures
from hearth_gateway.config import GatewaySettings
from hearth_gateway.console import PAGE, Console
from hearth_gateway.control import ControlPlane
from hearth_gateway.docs import Docs, public_prefix
from hearth_gateway.door import Door
from hearth_gateway.exposure import may_be_open
from hearth_gateway.keeper import Keeper
from hearth_gateway.pages import Pages
from hearth_gateway.replies import Refused, error_body, send_json
from hearth_gateway.routes import RouteWatcher
from hearth_gateway.routing import Router
from hearth_gateway.tokens import TASK_FOR, TokenPlane
from hearth_gateway.upstream import Upstream
from hearth_gateway.writes import Writes

log = logging.getLogger(__name__)

PUBLIC = "/api/v1/"
ADAPTER_DOWNLOAD = re.compile(r"models/[^/]+/download")
"""Not OpenAI's model of that name: one that is really called so is shown under /v1/."""

OPENAI = "/v1/"


class Gateway:
    """The app. What needs the event loop is made when the server starts it."""

    def __init__(self, settings: GatewaySettings, redis: Redis) -> None:
        self.settings = settings
        self.redis = redis
        self.router = Router()
        self.door = Door(may_be_open(settings))
        self.console = Console()
        self.pages = Pages(settings.cors_origins, any_host=settings.allow_open)
        self.watcher = RouteWatcher(redis, DeploymentStore(redis, JobStore(redis)), self.router)
        self.tokens: TokenPlane
        self.control: ControlPlane
        self.keeper: Keeper
        self.docs: Docs
        self.upstream: Upstream
        self.api = TraceMiddleware(self._api, self._route)
        self.http = self.pages.admit(self._http)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http":
            await self.http(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        writes = Writes(asyncio.get_running_loop().call_soon)
        self.upstream = Upstream(self.settings.connect_timeout, writes)
        self.tokens = TokenPlane(self.router, self.upstream, writes, self.door, self.pages, self.settings)
        scope["state"]["tokens"] = self.tokens
        self.control = ControlPlane(self.settings, self.door, self.pages)
        self.keeper = Keeper(self.door, self.control.trail, self.redis)
        self.docs = Docs(self.settings, self.control.http)
        self.watcher.start()
        await self.keeper.start()
        gc.freeze()  # what is there now stays: no collection need look at it again
        await send({"type": "lifespan.startup.complete"})
        async with beating():
            await receive()
        self.watcher.stop()
        self.tokens.close()
        self.upstream.close()
        await self.keeper.stop()  # after the last request, so that its usage is brought in
        await self.control.close()
        await asyncio.to_thread(traces.flush)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"].removeprefix(self.settings.root_path)
        if path.startswith((PUBLIC, OPENAI)):
            await self.api(scope, receive, send)
        else:
            response = await self._page(path, scope)
            await response(scope, receive, send)

    def _route(self, scope: Scope) -> str:
        """What part of the API is asked, without what follows: the owner knows the rest."""
        prefix, rest = self._below_prefix(scope)
        part = rest.partition("/")[0]
        return f"{prefix}{part}" if part in self.control.owners else prefix

    def _below_prefix(self, scope: Scope) -> tuple[str, str]:
        path: str = scope["path"].removeprefix(self.settings.root_path)
        prefix = PUBLIC if path.startswith(PUBLIC) else OPENAI
        return prefix, path.removeprefix(prefix)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix, rest = self._below_prefix(scope)
        path, method, rest = prefix + rest, scope["method"], rest.rstrip("/")
        is_reference_list = prefix == PUBLIC and path.endswith("/")
        if rest in TASK_FOR:  # POSTs to these never come here: see protocol
            await send_json(send, 405, error_body(405, f"{path.rstrip('/')} takes POST"), [(b"allow", b"POST")])
        elif prefix == PUBLIC and ADAPTER_DOWNLOAD.fullmatch(rest):
            response = await self.control.forward(rest, Request(scope, receive))
            await response(scope, receive, send)
        elif method == "GET" and (rest.startswith("models/") or (rest == "models" and not is_reference_list)):
            await self._models(rest, scope, send)
        elif prefix == PUBLIC or rest.partition("/")[0] in CONTROL_ROUTES:
            response = await self.control.forward(rest, Request(scope, receive))
            await response(scope, receive, send)
        else:
            await send_json(send, 404, error_body(404, f"there is no {method} {path}", code="not_found"))

    async def _models(self, rest: str, scope: Scope, send: Send) -> None:
        """OpenAI's list of models, or one of them."""
        try:
            caller = self.control.admit(Headers(scope=scope))
        except Refused as refused:
            await send_json(send, refused.status, refused.body, refused.headers)
            return
        if rest == "models":
            await self.tokens.list_models(caller, scope, send)
        else:
            await self.tokens.show_model(rest.removeprefix("models/"), caller, scope, send)

    async def _page(self, path: str, scope: Scope) -> Response:
        """Everything that is not the API itself."""
        if scope["method"] not in ("GET", "HEAD"):
            return problem_response(404, f"there is no {scope['method']} {path or '/'}; see /api/docs/")
        root = public_prefix(scope, self.settings.root_path)
        if path == "":  # the console's addresses are relative to its last slash
            return RedirectResponse(f"{root}/", 307)
        path = path.rstrip("/")
        if path == "/metrics":
            if (refusal := self.control.refusal(Headers(scope=scope))) is not None:
                return refusal
            measures.bring()
            return Response(exposition(), media_type=CONTENT_TYPE)
        if path == "/health/live":
            return JSONResponse({"status": "ok"})
        if path == "/health/ready":
            ready = self.router.loaded and self.door.loaded
            return JSONResponse({"status": "ok" if ready else "waiting for Redis"}, 200 if ready else 503)
        if path == "/api/openapi.json":
            return await self.docs.document(root)
        if path == "/api/docs":
            return self.docs.page(root)
        asset = self._asset(path, Headers(scope=scope))
        return asset or problem_response(404, f"there is no {path}; see /api/docs/ for what there is")

    def _asset(self, path: str, asked: Headers) -> Response | None:
        """A file of the console or of the docs."""
        if path == "":
            return self.console.answer(PAGE, asked)
        if path.startswith("/console/"):
            return self.console.answer(path.removeprefix("/console/"), asked)
        return self.docs.asset(path.removeprefix("/api/docs/")) if path.startswith("/api/docs/") else None
