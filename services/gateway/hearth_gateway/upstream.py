"""Requests to engines, over pooled keep-alive connections. The one place that knows the HTTP client."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

IDLE_SECONDS = 2.0
"""How long an idle connection is kept. Engines close theirs after five seconds (uvicorn's default): a request sent at
that very moment would be lost, and nobody could tell whether the engine had begun with it."""


class Refusal(Exception):
    """The engine did not take the request: nothing of it was answered, so another one may be asked."""


class Broken(Exception):
    """The engine took the request and the connection ended before the answer did."""


@dataclass(frozen=True)
class Answer:
    """An engine's answer: its head, and its body as it comes."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content_type: str
    chunks: AsyncIterator[bytes]


class Upstream:
    """The pool. Make it and close it in the running event loop."""

    def __init__(self, connect_timeout: float) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    @asynccontextmanager
    async def post(self, url: str, body: bytes, headers: Iterable[tuple[str, str]]) -> AsyncIterator[Answer]:
        """Send a request. Leaving the block before the body's end closes the connection, which the engine notices.

        Raises Refusal before anything was answered, Broken (also from `chunks`) afterwards.
        """
        try:
            response = await self._session.post(url, data=body, headers=list(headers), allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Refusal(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Broken(str(error)) from error
        try:
            yield Answer(
                status=response.status,
                headers=list(response.raw_headers),
                content_type=response.headers.get("content-type", ""),
                chunks=_chunks(response),
            )
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Broken(str(error)) from error
