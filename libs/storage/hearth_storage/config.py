"""Where S3 and the model store are."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class S3Settings(BaseSettings):
    """Any S3-compatible server."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    s3_endpoint: str = Field(default="127.0.0.1:8333", description="host:port of the S3 server")
    s3_access_key: SecretStr = Field(default=SecretStr(""), description="its access key")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="its secret key")
    s3_secure: bool = Field(default=False, description="speak TLS to it")
    s3_public_endpoint: str | None = Field(
        default=None, description="host:port at which clients reach it, if they may: parts of uploads then go there"
    )
    s3_public_secure: bool = Field(default=True, description="clients speak TLS to it")
    share_models: bool = Field(
        default=False,
        description="put each model that is added into S3 too, where inference nodes that lack it fetch it from",
    )
    s3_region: str = Field(default="us-east-1", description="its region; naming it saves a request")


class HomeSettings(BaseSettings):
    """The folder that holds all data of this machine."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    home: Path = Field(default=Path(".hearth"), description="models, imports, adapters, runs, logs lie under it")

    @property
    def models(self) -> Path:
        """The model store."""
        return self.home.absolute() / "models"

    @property
    def imports(self) -> Path:
        """Folders here can be imported as models."""
        return self.home.absolute() / "imports"

    @property
    def adapters(self) -> Path:
        """Verified local copies of adapters."""
        return self.home.absolute() / "adapters"

    @property
    def runs(self) -> Path:
        """Working folders of trainings."""
        return self.home.absolute() / "runs"

    @property
    def logs(self) -> Path:
        """One file a process; `jobs/<job id>.log` one a job."""
        return self.home.absolute() / "logs"

    def job_log(self, job_id: str) -> Path:
        """The log of a job."""
        return self.logs / "jobs" / f"{job_id}.log"
