"""The service as the process it is: what it needs does not grow with the file."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hearth_storage.config import S3Settings
from minio import Minio
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.support.servers import free_port

MIB = 2**20
TURNS = [{"role": "user", "content": "x" * 4_000}, {"role": "assistant", "content": "ho"}]
BLOCK = (json.dumps({"messages": TURNS}) + "\n").encode() * 256  # about one MiB
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n'


@pytest.fixture
def process(s3: Minio, s3_settings: S3Settings) -> Iterator[tuple[int, httpx.Client]]:
    """A running service: its process id, and a client of it."""
    port = free_port()
    settings = {
        "HEARTH_DATASET_PORT": str(port),
        "HEARTH_S3_ENDPOINT": s3_settings.s3_endpoint,
        "HEARTH_S3_ACCESS_KEY": s3_settings.s3_access_key.get_secret_value(),
        "HEARTH_S3_SECRET_KEY": s3_settings.s3_secret_key.get_secret_value(),
    }
    command = [sys.executable, "-m", "hearth_dataset"]
    with (
        subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL) as popen,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(httpx.ConnectError), stop=stop_after_delay(60), wait=wait_fixed(0.05)
            ):
                with attempt:
                    assert client.get("/health/ready").status_code == 200
            yield popen.pid, client
        finally:
            popen.terminate()


def peak_bytes(pid: int) -> int:
    """The most memory that the process ever held."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def send(client: httpx.Client, blocks: int) -> httpx.Response:
    """Upload a file of so many blocks, itself never whole in memory."""

    def body() -> Iterator[bytes]:
        yield HEAD
        for _ in range(blocks):
            yield BLOCK
        yield b"\r\n--b--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=b"}
    return client.post("/v1/datasets/upload/", content=body(), headers=kind)


def test_memory_does_not_grow_with_the_file_and_every_byte_is_kept(process: tuple[int, httpx.Client]) -> None:
    pid, client = process
    assert send(client, 64).status_code == 200
    before = peak_bytes(pid)
    reply = send(client, 192)
    assert reply.status_code == 200, reply.text
    made = reply.json()
    digest = hashlib.sha256()
    with client.stream("GET", f"/v1/datasets/{made['id']}/") as download:
        for piece in download.iter_raw():
            digest.update(piece)
    assert made["sha256"] == digest.hexdigest()
    assert made["bytes"] == 192 * len(BLOCK)
    assert peak_bytes(pid) - before < 80 * MIB  # of 134 MB more; how many parts are in flight depends on S3's pace
