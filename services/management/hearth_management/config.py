"""Management's settings, from HEARTH_* variables."""

from pathlib import Path

from hearth_fit.engine import EngineDefaults
from pydantic import Field


class ManagementSettings(EngineDefaults):
    """What management and its download worker are set to, and, inherited, what it reckons that engines are set to."""

    management_host: str = Field(default="127.0.0.1", description="address to listen on")
    management_port: int = Field(default=8081, description="port to listen on")
    llm_name: str = Field(default="Compressa-LLM", description="what clients call the deployed base model")
    embedding_name: str = Field(default="Compressa-Embedding", description="what clients call the embedding model")
    rerank_name: str = Field(default="Compressa-Rerank", description="what clients call the reranker")
    embedding_model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="the embedding model deployed at start; empty for none",
    )
    embedding_import: str = Field(
        default="all-MiniLM-L6-v2",
        description="folder under the import directory to take it from, where it is not in the model store",
    )
    deploy_file: Path | None = Field(
        default=None, description="a TOML file of what to deploy at start: a table a deployment, as in docs/operate.md"
    )
    max_attempts: int = Field(
        default=3, ge=1, description="after so many deaths of its worker a job is FAILED; a stopped worker is no death"
    )
    fit_check: bool = Field(
        default=True,
        description="refuse what this machine has no room for; to be off where engines and trainers run on others",
    )
    scale_waiting: float = Field(
        default=4, gt=0, description="requests that may wait in each engine before `max_replicas` lets there be more"
    )
    scale_first_token_seconds: float = Field(
        default=0,
        ge=0,
        description="so long may one stream in 20 wait for its first token before there are more as well; 0: any time",
    )
    scale_up_seconds: float = Field(default=10, ge=0, description="how long that lasts before there are more engines")
    scale_down_seconds: float = Field(
        default=300, ge=0, description="how long fewer engines must have been enough before there are fewer"
    )
    hub_seconds: float = Field(
        default=4, gt=0, description="how long the hub is waited for when a model is added, before the job asks it"
    )
