"""What a gateway is without any care for speed: FastAPI in front, httpx behind. The floor of the comparison."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

ENGINE = os.environ["BENCH_ENGINE"]


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=ENGINE, timeout=None, limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=_life)


@app.post("/v1/{rest:path}")
async def forward(rest: str, request: Request) -> StreamingResponse:
    """Pass a request on, and its answer back as it comes."""
    client: httpx.AsyncClient = request.app.state.client
    sent = client.build_request("POST", f"/v1/{rest}", content=await request.body())
    reply = await client.send(sent, stream=True)
    kind = reply.headers["content-type"]
    return StreamingResponse(reply.aiter_raw(), reply.status_code, media_type=kind, background=None)
