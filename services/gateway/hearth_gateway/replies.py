"""Whole replies over bare ASGI, and OpenAI's error object."""

import json
from typing import Any

from starlette.types import Send

RETRY_SECONDS = 2


class Refused(Exception):
    """A request that is not passed on: an HTTP status, and OpenAI's error object for the token plane."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        retry: bool = False,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.body = error_body(status, message, code=code, param=param, kind=kind)
        self.headers = [(b"retry-after", str(RETRY_SECONDS).encode())] if retry else list(headers or [])


def error_body(
    status: int, message: str, *, code: str | None = None, param: str | None = None, kind: str | None = None
) -> bytes:
    """OpenAI's error object (https://platform.openai.com/docs/guides/error-codes)."""
    kind = kind or ("invalid_request_error" if status < 500 else "server_error")
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


async def send_json(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """A JSON reply."""
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *(headers or []),
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
