"""Connections to the gateway on which a test sends any bytes, and what it asks on them."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.wire import PATIENCE_SECONDS

CHAT = "/v1/chat/completions"
ASK = b'{"model":"LLM","messages":[]}'
STREAM = b'{"model":"LLM","messages":[],"stream":true}'
MORE_THAN_BUFFERS_HOLD = 64_000_000


def limited(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("limits", [settings], indirect=True, ids=[""])


def event(number: int, tokens: int | None = None) -> bytes:
    chunk: dict[str, Any] = {"n": number, "choices": [{"index": 0}]}
    if tokens is not None:
        chunk["usage"] = {"prompt_tokens": 5, "total_tokens": 5 + tokens, "completion_tokens": tokens}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


class Client:
    """A connection to the gateway on which any bytes can be sent."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, body: bytes = ASK, *headers: str, version: str = "1.1") -> None:
        lines = [f"POST {CHAT} HTTP/{version}", "host: localhost", f"content-length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def status(self) -> tuple[int, dict[str, str]]:
        """The next answer's status and headers."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, value = line.split(": ", 1)
            headers[name] = value
        return status, headers

    def answer(self) -> tuple[int, bytes]:
        """The next answer, its body of a known length."""
        status, headers = self.status()
        return status, self.file.read(int(headers["content-length"]))

    def is_closed(self) -> bool:
        """Whether the gateway ends the connection, within PATIENCE_SECONDS."""
        try:
            while self.file.read1():
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


Dial = Callable[[], Client]
