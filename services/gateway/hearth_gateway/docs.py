"""One OpenAPI document for all services, and Swagger over it, with nothing loaded from elsewhere."""

import asyncio
import json
import re
import time
from importlib.resources import files
from typing import Any

import httpx
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from hearth_gateway.config import GatewaySettings
from hearth_gateway.openai_docs import openai_document

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
KEPT_SECONDS = 5.0
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Nothing from elsewhere, in nobody's frame: keys are typed into this page. Swagger starts by an inline script."""
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")  # nothing that could mean something in a page
KEY = {"type": "http", "scheme": "bearer", "description": "an API key, once there are any"}
TAGS = ("Models", "Deploy", "Jobs", "Datasets", "Finetuning", "Access", "System", "OpenAI-like API")


class Docs:
    """The pages under /api/docs/, and /api/openapi.json."""

    def __init__(self, settings: GatewaySettings, http: httpx.AsyncClient) -> None:
        self.sources = {"management": settings.management_url, "dataset": settings.dataset_url}
        self.http = http
        self._kept: tuple[float, dict[str, Any]] | None = None

    def page(self, root_path: str) -> Response:
        """Swagger."""
        page = get_swagger_ui_html(
            openapi_url=f"{root_path}/api/openapi.json",
            title="Hearth API",
            swagger_js_url=f"{root_path}/api/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root_path}/api/docs/swagger-ui.css",
            swagger_favicon_url=f"{root_path}/api/docs/favicon.png",
        )
        page.headers.update(PAGE_HEADERS)
        return page

    def asset(self, name: str) -> Response | None:
        """One of Swagger's files, or None."""
        if name not in ASSETS:
            return None
        body = (files("fastapi_offline") / "static" / name).read_bytes()
        return Response(body, media_type=ASSETS[name], headers={"Cache-Control": "max-age=86400"})

    async def document(self, root_path: str) -> Response:
        """The merged document, at most a few seconds old, for a client that reaches Hearth under `root_path`."""
        servers = [{"url": root_path or "/"}]
        if self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
            found = await asyncio.gather(*(self._fetch(url) for url in self.sources.values()))
            away = [name for name, document in zip(self.sources, found, strict=True) if document is None]
            merged = merge([document for document in found if document is not None], away)
            if away:
                return JSONResponse({**merged, "servers": servers})
            self._kept = (time.monotonic(), merged)
        return JSONResponse({**self._kept[1], "servers": servers})

    async def _fetch(self, url: str) -> dict[str, Any] | None:
        try:
            reply = await self.http.get(f"{url}/openapi.json", timeout=5)
            document: dict[str, Any] = reply.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        return document


def public_prefix(scope: Scope, configured: str) -> str:
    """The path that a reverse proxy took off the request: its X-Forwarded-Prefix if well-formed, else the setting."""
    given = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
    return given if _PREFIX.fullmatch(given) else configured


def merge(documents: list[dict[str, Any]], away: list[str]) -> dict[str, Any]:
    """One document of several: paths as the gateway has them, every schema under a name of its own."""
    description = "Every path answers with and without its last slash. Times are UTC."
    if away:
        description += f" **Not shown, since they do not answer right now: {', '.join(away)}.**"
    merged: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Hearth API", "version": "0.1.0", "description": description},
        "tags": [{"name": name} for name in TAGS],
        "paths": {},
        "components": {"schemas": {}, "securitySchemes": {"key": KEY}},
        "security": [{}, {"key": []}],  # none is needed as long as there is none
    }
    schemas: dict[str, Any] = merged["components"]["schemas"]
    for document in (*documents, openai_document()):
        theirs = document.get("components", {}).get("schemas", {})
        renamed = {name: _free_name(name, schema, schemas, document) for name, schema in theirs.items()}
        text = json.dumps({"paths": document["paths"], "schemas": theirs})
        for old, new in renamed.items():
            text = text.replace(f'"#/components/schemas/{old}"', f'"#/components/schemas/{new}"')
        loaded = json.loads(text)
        for path, item in loaded["paths"].items():
            merged["paths"].setdefault(_public(path), {}).update(item)
        schemas.update({renamed[name]: schema for name, schema in loaded["schemas"].items()})
    return merged


def _free_name(name: str, schema: Any, taken: dict[str, Any], document: dict[str, Any]) -> str:
    """The name itself, unless another document uses it for another schema."""
    if name not in taken or taken[name] == schema:
        return name
    return f"{document['info']['title'].rpartition(' ')[2].capitalize()}{name}"


def _public(path: str) -> str:
    """A service's path as the gateway has it, with its last slash; one that is public already is left alone."""
    return path if path.startswith("/api/") else f"/api{path.rstrip('/')}/"
