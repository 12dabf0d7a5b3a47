"""A real Prometheus over a running platform, with the configuration that compose mounts, at a test's pace."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


@contextmanager
def prometheus(folder: Path, addresses: Mapping[str, str]) -> Iterator[httpx.Client]:
    """Start it; `addresses` are what to ask in place of the names in compose. Gives a client of its API."""
    text = (CONFIG / "prometheus.yml").read_text().replace("15s", "1s")
    for name, address in addresses.items():
        assert name in text
        text = text.replace(name, address)
    (folder / "prometheus.yml").write_text(text)
    (folder / "alerts.yml").write_text((CONFIG / "alerts.yml").read_text())
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(0.1)):
                with attempt:
                    client.get("/-/ready").raise_for_status()
            yield client
    finally:
        process.terminate()
        process.wait(20)


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """The series that an expression gives right now."""
    reply = client.get("/api/v1/query", params={"query": expression})
    assert reply.status_code == 200, f"{expression}: {reply.text}"
    found: list[dict[str, Any]] = reply.json()["data"]["result"]
    return found


def query_range(client: httpx.Client, expression: str, seconds: float) -> list[dict[str, Any]]:
    """The series that an expression has given over the last `seconds`: `values` are pairs of time and number."""
    end = time.time()
    params = {"query": expression, "start": str(end - seconds), "end": str(end), "step": str(max(1.0, seconds / 200))}
    reply = client.get("/api/v1/query_range", params=params)
    assert reply.status_code == 200, f"{expression}: {reply.text}"
    found: list[dict[str, Any]] = reply.json()["data"]["result"]
    return found
