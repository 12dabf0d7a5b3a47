"""The dataset service's settings, from HEARTH_* variables."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatasetSettings(BaseSettings):
    """What the service is set to."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    dataset_host: str = Field(default="127.0.0.1", description="address to listen on")
    dataset_port: int = Field(default=8082, description="port to listen on")
    dataset_max_bytes: int = Field(default=20 * 2**30, description="the largest file taken")
    dataset_max_line_bytes: int = Field(default=16 * 2**20, description="the longest line taken")
    dataset_max_part_bytes: int = Field(default=2**30, description="the largest part of an upload in parts")
