"""A client that leaves ends the engine's work: seen in vLLM's own metrics."""

import re
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from hearth_jobs.nodes import NodeRegistry
from hearth_local.config import load_secrets, process_environment

from tests.conftest import Running

TOKENS = 900
PATIENCE_SECONDS = 30


@pytest.fixture
def metric(platform: Running, deployed: dict[str, Any]) -> Callable[[str], float]:
    """Reads one number off the engine's page."""
    config = platform.platform.config
    url = process_environment(config, load_secrets(config))["HEARTH_REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        (engine,) = [node.url for node in NodeRegistry(client).live() if "Compressa-LLM" in node.models]

    def read(name: str) -> float:
        page = httpx.get(f"{engine}/metrics").text
        found = re.search(rf"^vllm:{name}(?:{{[^\n]*}})? (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    return read


def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
    return time.monotonic() - began


@pytest.mark.parametrize("when", ["streaming", "whole"])
def test_the_engine_stops_when_the_client_leaves(platform: Running, metric: Callable[[str], float], when: str) -> None:
    address = urlsplit(platform.url)
    assert address.hostname is not None
    stream = "true" if when == "streaming" else "false"
    body = (
        f'{{"model":"Compressa-LLM","prompt":"Say","max_tokens":{TOKENS},"ignore_eos":true,"stream":{stream}}}'.encode()
    )
    made = metric("generation_tokens_total")
    with socket.create_connection((address.hostname, address.port or 80), PATIENCE_SECONDS) as client:
        head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        if when == "streaming":
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        until(lambda: metric("generation_tokens_total") > made)
        assert metric("num_requests_running") == 1
    until(lambda: metric("num_requests_running") == 0, seconds=1)
    after = metric("generation_tokens_total")
    assert after - made < TOKENS
    assert metric("generation_tokens_total") == after
