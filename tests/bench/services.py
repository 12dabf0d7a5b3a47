"""Hearth's services as processes, for what is measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed


@contextmanager
def service(module: str, port: int, env: dict[str, str], folder: Path) -> Iterator[int]:
    """A service as a process of its own, which is ready when the block begins; its process id."""
    with (folder / f"{module}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", module], env=env, stdout=log, stderr=log)
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.HTTPError), stop=stop_after_delay(120), wait=wait_fixed(0.2)
        ):
            with attempt:
                httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).raise_for_status()
        yield process.pid
    finally:
        process.terminate()
        process.wait()
