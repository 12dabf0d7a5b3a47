"""Whole replies over bare ASGI, and OpenAI's error object."""

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Send

RETRY_SECONDS = 2
MOST_FAULTS = 10
"""Of an engine's faults so many are told: a batch may have thousands, all alike."""

_STATUS_LINE: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


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
        lines: bytes = b"",  # of more headers, as they are sent
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.body = error_body(status, message, code=code, param=param, kind=kind)
        self.lines = lines
        self.headers = [(b"retry-after", str(RETRY_SECONDS).encode())] if retry else list(headers or [])


class Waking(Refused):
    """The model's engine is on its way, and the request may wait for it; else it is refused with these words."""

    def __init__(self, model: str, deployment: str) -> None:
        self.deployment = deployment
        super().__init__(503, f"the model `{model}` is being loaded; try again", code="model_loading", retry=True)


def error_body(
    status: int, message: str, *, code: str | None = None, param: str | None = None, kind: str | None = None
) -> bytes:
    """OpenAI's error object (https://platform.openai.com/docs/guides/error-codes)."""
    kind = kind or ("invalid_request_error" if status < 500 else "server_error")
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def too_large(limit: int) -> Refused:
    """The answer to a body that is larger than the limit, in bytes."""
    return Refused(413, f"the body is larger than {limit} bytes", code="too_large")


def openai_error(status: int, told: bytes) -> bytes:
    """An engine's error as OpenAI's object, which its clients read.

    infinity answers FastAPI's `{"detail": ...}`, or OpenAI's object with no type. What is whole already, or neither,
    is returned as it is.
    """
    try:
        body = json.loads(told)
        message = body["detail"] if "detail" in body else _untyped(body["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return told
    if isinstance(message, list):
        message = "; ".join(map(_fault, message[:MOST_FAULTS]))
    return error_body(status, message) if isinstance(message, str) else told


def _untyped(error: Any) -> Any:
    """The message of an error object that lacks its type, else None."""
    return error["message"] if error["type"] is None else None


def _fault(entry: Any) -> str:
    """One of FastAPI's faults: where, and what."""
    if not isinstance(entry, dict):
        return str(entry)
    return f"{'.'.join(map(str, entry.get('loc', ())))}: {entry.get('msg', '')}"


def answer_head(status: int, headers: list[tuple[bytes, bytes]], lines: bytes = b"") -> bytes:
    """An answer's head, as it is sent; `lines` are of more headers, written already."""
    parts = [_STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (lines, b"\r\n")
    return b"".join(parts)


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
