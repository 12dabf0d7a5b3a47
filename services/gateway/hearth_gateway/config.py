"""The gateway's settings, from HEARTH_* variables."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several values, in the environment with commas between them."""


class GatewaySettings(BaseSettings):
    """What the gateway is set to."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    gateway_host: str = Field(default="127.0.0.1", description="address to listen on")
    gateway_port: int = Field(default=8080, description="port to listen on: the public one")
    published_host: str = Field(
        default="",
        description="address at which others reach a gateway in a container, which itself listens on all; "
        "on loopback it needs no keys",
    )
    metrics_port: int | None = Field(
        default=None, description="port for /metrics without a key, for a Prometheus on a private network"
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path under which a reverse proxy shows Hearth, e.g. /llm; X-Forwarded-Prefix says it as well",
    )
    allow_open: bool = Field(
        default=False, description="as long as there are no API keys, whoever can reach it may do everything"
    )
    cors_origins: Words = Field(
        default=(),
        description="web pages that may use Hearth, e.g. https://chat.example.com; * for all; none by itself",
    )
    trusted_proxies: Words = Field(
        default=(), description="addresses or networks of reverse proxies whose X-Forwarded-* headers are believed"
    )
    tls_cert: Path | None = Field(default=None, description="PEM file of the certificate and its chain: serve HTTPS")
    tls_key: Path | None = Field(default=None, description="PEM file of its private key")
    management_url: str = Field(default="http://127.0.0.1:8081", description="where management answers")
    dataset_url: str = Field(default="http://127.0.0.1:8082", description="where the dataset service answers")
    max_body_bytes: int = Field(default=32 * 2**20, description="the largest body of a completion or embedding")
    max_buffered_bytes: int = Field(default=2**30, description="memory for all bodies on their way to engines")
    max_head_bytes: int = Field(default=64 * 2**10, description="the largest head of a request")
    max_requests: int = Field(default=8192, description="completions and embeddings at work at once, in one process")
    connect_timeout: float = Field(default=2.0, description="seconds to wait for an engine to take a connection")
    first_byte_timeout: float = Field(default=600.0, description="seconds an engine may take to begin an answer")
    wake_seconds: float = Field(
        default=300.0, description="seconds that a request waits for the engine of a deployment that sleeps when idle"
    )
    wake_requests: int = Field(default=256, description="requests that wait so at once, in one process")
    idle_timeout: float = Field(default=120.0, description="seconds between two bytes of an answer, engine or client")
    head_timeout: float = Field(default=10.0, description="seconds a client may take to send a request's head")
    body_timeout: float = Field(default=60.0, description="seconds it may take to send a completion's body")
    keep_alive_timeout: float = Field(default=75.0, description="seconds an idle client's connection is kept")
    drain_timeout: float = Field(default=30.0, description="seconds that running answers have when the gateway ends")
    affinity_bytes: int = Field(
        default=0,
        description="send prompts that begin alike, in so many bytes, to the same engine for its prefix cache; 0: off",
    )
    gateway_workers: int = Field(default=1, ge=1, description="processes that share the port")
