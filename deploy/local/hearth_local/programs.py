"""The programs of a platform, in the order they start: how each is run, and when it is ready."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import psutil
from hearth_storage.config import S3Settings
from hearth_storage.objects import connect as connect_s3
from minio import Minio
from pydantic import SecretStr
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Worker

from hearth_local.config import Config, Secrets, gateway_tls, valkey_binary, write_private
from hearth_local.paths import env_python, light_binary


@dataclass(frozen=True)
class Context:
    """What a program's command and check are made from."""

    config: Config
    secrets: Secrets

    def redis(self) -> Redis:
        """A client of the platform's Redis, which asks once: who looks whether it is there wants to know soon."""
        password, port = self.secrets.redis_password, self.config.ports["redis"]
        return Redis(port=port, password=password, socket_timeout=2, retry=Retry(NoBackoff(), 0))


@dataclass(frozen=True)
class Program:
    """One process under the supervisor."""

    name: str
    command: Callable[[Context], list[str]]
    ready: Callable[[Context], bool]  # may raise: not ready
    port: str | None = None  # the name of the port it listens on, where there is one
    env: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # other environments
    stop_seconds: int = 10  # between asking it to stop and killing it
    imports: bool = False  # it deploys the packaged embedding model from imports/
    beats: bool = False  # it shows signs of life, and is started again when it shows none
    is_store: bool = False  # others write to it until they have stopped


def _module(name: str) -> Callable[[Context], list[str]]:
    return lambda _context: [sys.executable, "-m", name]


def _answers(port: str) -> Callable[[Context], bool]:
    def check(context: Context) -> bool:
        url = f"http://127.0.0.1:{context.config.ports[port]}/health/ready"
        return httpx.get(url, timeout=3, trust_env=False).status_code == 200

    return check


def _gateway_answers(context: Context) -> bool:
    url = f"{context.config.url}/health/ready"
    return httpx.get(url, timeout=3, trust_env=False, verify=gateway_tls(context.config)).status_code == 200


def _works(name: str) -> Callable[[Context], bool]:
    """Whether an RQ worker of this name has registered, and not one that was killed and is not forgotten yet."""

    def check(context: Context) -> bool:
        with context.redis() as redis:
            registered = [each for each in Worker.all(connection=redis) if each.name.startswith(f"{name}@")]
        return any(each.pid is not None and psutil.pid_exists(each.pid) for each in registered)

    return check


def _valkey(context: Context) -> list[str]:
    folder = context.config.home / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"port {context.config.ports['redis']}",
        "bind 127.0.0.1",
        f"dir {json.dumps(str(folder))}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        f"requirepass {context.secrets.redis_password}",
    ]
    return [valkey_binary(), str(write_private(context.config.run / "valkey.conf", "\n".join(lines) + "\n"))]


def _pings(context: Context) -> bool:
    with context.redis() as redis:
        return bool(redis.ping())


def _s3(context: Context) -> list[str]:
    config, ports = context.config, context.config.ports
    folder = config.home / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    keys = {"accessKey": context.secrets.s3_access_key, "secretKey": context.secrets.s3_secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "hearth", "credentials": [keys], "actions": actions}]}
    return [
        light_binary("weed"), "-logtostderr=true", "server",
        f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3 s3.grpc']}",
        f"-s3.config={write_private(config.run / 's3.json', json.dumps(identities))}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.allowDeleteBucketNotEmpty=false",
        f"-master.port={ports['s3 master']}", f"-master.port.grpc={ports['s3 master.grpc']}",
        f"-volume.port={ports['s3 volume']}", f"-volume.port.grpc={ports['s3 volume.grpc']}",
        f"-filer.port={ports['s3 filer']}", f"-filer.port.grpc={ports['s3 filer.grpc']}",
        "-volume.max=0", "-master.volumeSizeLimitMB=128", "-master.telemetry=false",
        # or a restart after a kill takes 17 s
        "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms", "-volume.preStopSeconds=0",
    ]  # fmt: skip


def s3_client(context: Context) -> Minio:
    """A client of the platform's S3 server."""
    return connect_s3(
        S3Settings(
            s3_endpoint=f"127.0.0.1:{context.config.ports['s3']}",
            s3_access_key=SecretStr(context.secrets.s3_access_key),
            s3_secret_key=SecretStr(context.secrets.s3_secret_key),
        )
    )


def _lists_buckets(context: Context) -> bool:
    s3_client(context).list_buckets()
    return True


def _node(name: str, engine: str) -> Program:
    env = {"HEARTH_ENGINE": engine, "HEARTH_ENGINE_PYTHON": str(env_python(engine)), "HEARTH_WORKER_NAME": name}
    return Program(name, _module("hearth_inference"), _works(name), env=env, needs=(engine,), stop_seconds=40)


_S3_ENV = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "2"}
"""A bucket that gets its first object takes so many volumes of those that the disk has room for; 7 by default."""

PROGRAMS = (
    Program("valkey", _valkey, _pings, port="redis", is_store=True),
    # Asked to stop, SeaweedFS waits 15 s for streams among its own parts. Everybody else has stopped by then, and it
    # keeps what it acknowledged when it is killed.
    Program("s3", _s3, _lists_buckets, port="s3", env=_S3_ENV, is_store=True, stop_seconds=2),
    Program(
        "management", _module("hearth_management"), _answers("management"), port="management", imports=True, beats=True
    ),
    Program("downloads", _module("hearth_management.downloads"), _works("downloads"), stop_seconds=20),
    Program("dataset", _module("hearth_dataset"), _answers("dataset"), port="dataset", beats=True),
    Program("training", _module("hearth_training"), _works("training"), needs=("training",), stop_seconds=90),
    # Two that take from one queue: a worker serves one deployment, and there may be embeddings and a reranker.
    _node("inference-embedding", "infinity"),
    _node("inference-rerank", "infinity"),
    _node("inference-llm", "vllm"),
    Program("gateway", _module("hearth_gateway"), _gateway_answers, port="gateway", beats=True),
)
