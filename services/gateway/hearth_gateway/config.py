"""The gateway's settings, from HEARTH_* variables."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """What the gateway is set to."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    gateway_host: str = Field(default="127.0.0.1", description="address to listen on")
    gateway_port: int = Field(default=8080, description="port to listen on: the public one")
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path under which a reverse proxy shows Hearth, e.g. /llm; X-Forwarded-Prefix says it as well",
    )
    allow_open: bool = Field(default=False, description="listen beyond loopback although there are no API keys")
    management_url: str = Field(default="http://127.0.0.1:8081", description="where management answers")
    dataset_url: str = Field(default="http://127.0.0.1:8082", description="where the dataset service answers")
    max_body_bytes: int = Field(default=32 * 2**20, description="the largest body of a completion or embedding")
    connect_timeout: float = Field(default=2.0, description="seconds to wait for an engine to take a connection")
