"""The training worker's settings, from HEARTH_* variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainingSettings(BaseSettings):
    """What the worker is set to."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True)

    trainer_python: Path = Field(
        default=Path(".envs/training/bin/python"),
        description="the Python of the environment that holds TRL and PEFT, and Ray where that is to be used",
    )
    training_executor: Literal["local", "ray"] = Field(
        default="local", description="where runs train: local, on this machine; ray, on a Ray cluster"
    )
    ray_address: str = Field(
        default="auto", description="host:port of its head; auto: of the cluster that this machine is a node of"
    )
    ray_gpus_per_worker: int | None = Field(
        default=None,
        ge=0,
        le=1,
        description="GPUs of each of a run's workers where the run does not say; not set: 1 if the cluster has any "
        "just then, which one that grows with its runs may not",
    )
    ray_patience: float = Field(
        default=300.0,
        description="seconds a run waits for a Ray cluster that does not answer before it fails; it can be resumed",
    )
    trainer_warm: bool = Field(
        default=False,
        description="keep a trainer with its libraries loaded for the next run, which then begins some ten seconds "
        "sooner; it holds half a gigabyte of memory while it waits",
    )
    trainer_grace: float = Field(
        default=60.0, description="seconds a run has to finish its step and save a checkpoint when it is to stop"
    )
    s3_patience: float = Field(
        default=900.0,
        description="seconds a run waits for an S3 server that is away before it fails; it can be resumed",
    )
