"""Management's settings, from HEARTH_* variables."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ManagementSettings(BaseSettings):
    """What management and its download worker are set to."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    management_host: str = Field(default="127.0.0.1", description="address to listen on")
    management_port: int = Field(default=8081, description="port to listen on")
    llm_name: str = Field(default="Compressa-LLM", description="what clients call the deployed base model")
    embedding_name: str = Field(default="Compressa-Embedding", description="what clients call the embedding model")
    embedding_model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="the embedding model deployed at start; empty for none",
    )
    embedding_import: str = Field(
        default="all-MiniLM-L6-v2",
        description="folder under the import directory to take it from, where it is not in the model store",
    )
    max_lora_rank: int = Field(default=64, description="the highest LoRA rank that can be deployed, so trained")
    max_attempts: int = Field(
        default=3, ge=1, description="after so many deaths of its worker a job is FAILED; a stopped worker is no death"
    )
