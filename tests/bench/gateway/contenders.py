"""The gateways that are compared: each is got from its registry if need be, started on one core, and awaited."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from hearth_access.key_store import KeyStore
from hearth_contracts.access import KeyRequest, Limits
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_jobs.nodes import NodeRegistry
from redis import Redis
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port, valkey

LOAD_CORE, GATEWAY_CORE = 0, 1
ROUTER_VERSION = "0.1.17"
MODELS = {"Compressa-LLM": Engine.VLLM, "Compressa-Embedding": Engine.INFINITY}
NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 32m; client_body_buffer_size 2m; keepalive_requests 1000000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Contender:
    """A gateway that runs."""

    port: int
    key: str = ""
    pid: int = 0
    redis: Redis | None = None  # the gateway's own, where it has one


def on_core(core: int, words: list[str], **environment: str) -> "subprocess.Popen[bytes]":
    """Start a program on one core."""
    return subprocess.Popen(
        ["taskset", "-c", str(core), *words],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("BENCH_LOUD") else subprocess.DEVNULL,
    )


@contextmanager
def process(core: int, words: list[str], **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program on one core, as long as the block lasts."""
    running = on_core(core, words, **environment)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def await_answer(contender: Contender) -> None:
    """Until it answers a completion."""
    body = {"model": "Compressa-LLM", "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {contender.key}"} if contender.key else {}
    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.2)):
        with attempt:
            url = f"http://127.0.0.1:{contender.port}/v1/chat/completions"
            httpx.post(url, json=body, headers=headers).raise_for_status()


def nginx_binary(folder: Path) -> str:
    """nginx: the system's, or Debian's package unpacked into `folder`."""
    found = shutil.which("nginx")
    if found:
        return found
    if not list(folder.glob("nginx_*.deb")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "nginx"], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("nginx_*.deb")
    subprocess.run(["dpkg", "-x", package.name, "nginx"], cwd=folder, check=True)
    return str(folder / "nginx/usr/sbin/nginx")


@contextmanager
def nginx(engine: int, folder: Path) -> Iterator[Contender]:
    """nginx as a reverse proxy that buffers nothing."""
    binary = nginx_binary(folder / "nginx-package")
    port, home = free_port(), folder / "nginx-home"
    home.mkdir(exist_ok=True)
    (home / "conf").write_text(NGINX.format(folder=home, engine=engine, port=port))
    with process(GATEWAY_CORE, [binary, "-p", str(home), "-c", str(home / "conf")]):
        yield Contender(port)


@contextmanager
def router(engine: int, folder: Path) -> Iterator[Contender]:
    """vLLM's router, in Rust, in an environment of its own."""
    home, port = folder / "router", free_port()
    if not (home / "bin/vllm-router").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([home / "bin/pip", "install", "-q", f"vllm-router=={ROUTER_VERSION}"], check=True)
    words = [str(home / "bin/vllm-router"), "--worker-urls", f"http://127.0.0.1:{engine}", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--policy", "round_robin", "--log-level", "error"]
    with process(GATEWAY_CORE, words):
        yield Contender(port)


@contextmanager
def floor(engine: int, _: Path) -> Iterator[Contender]:
    """FastAPI and httpx."""
    port = free_port()
    words = [sys.executable, "-m", "uvicorn", "tests.bench.gateway.floor:app", "--port", str(port)]
    words += ["--no-access-log", "--log-level", "error", "--loop", "uvloop", "--http", "httptools"]
    with process(GATEWAY_CORE, words, BENCH_ENGINE=f"http://127.0.0.1:{engine}"):
        yield Contender(port)


def _report(redis: Redis, engines: Sequence[int], over: threading.Event) -> None:
    registry = NodeRegistry(redis)
    while True:
        for name, kind in MODELS.items():
            for engine in engines:
                registry.report(
                    NodeReport(
                        node_id=f"{name}-{engine}", deployment=name, engine=kind, state=DeploymentState.READY,
                        models=(name,), url=f"http://127.0.0.1:{engine}", model_id="org/base", generation=1,
                    )
                )  # fmt: skip
        if over.wait(2):
            return


@contextmanager
def hearth(engine: int | Sequence[int], folder: Path, workers: int = 1) -> Iterator[Contender]:
    """Hearth with everything on: a key with limits, usage, metrics. Several engines serve the same models."""
    engines = [engine] if isinstance(engine, int) else engine
    port, over = free_port(), threading.Event()
    limits = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, concurrent_requests=10**6)
    with ExitStack() as stack:
        redis = stack.enter_context(valkey(folder / f"valkey-{port}"))
        redis_port = redis.connection_pool.connection_kwargs["port"]
        key = KeyStore(redis).create(KeyRequest(name="bench", limits=limits)).secret
        reporting = threading.Thread(target=_report, args=(redis, engines, over))
        reporting.start()
        stack.callback(reporting.join)
        stack.callback(over.set)
        environment = {
            "HEARTH_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "HEARTH_GATEWAY_PORT": str(port),
            "HEARTH_GATEWAY_WORKERS": str(workers),
        }
        words = [sys.executable, "-m", "hearth_gateway"]
        running = stack.enter_context(process(GATEWAY_CORE, words, **environment))
        yield Contender(port, key, running.pid, redis)


@contextmanager
def direct(engine: int, _: Path) -> Iterator[Contender]:
    """No gateway at all."""
    yield Contender(engine)


CONTENDERS = {"direct": direct, "nginx": nginx, "vllm-router": router, "Hearth": hearth, "FastAPI + httpx": floor}
