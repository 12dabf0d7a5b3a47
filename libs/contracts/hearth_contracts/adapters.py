"""Adapters: what a training leaves behind, and how it is known to be whole."""

from typing import Any

from pydantic import Field

from hearth_contracts.base import Frozen, Timestamp


class AdapterFile(Frozen):
    """One file of an adapter."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="a plain file name")
    bytes: int
    sha256: str


class AdapterManifest(Frozen):
    """Written last as `adapters/<id>/manifest.json`: an adapter without it does not exist."""

    adapter_id: str
    base_model_id: str
    base_revision: str = Field(description="the snapshot of the base that it was trained on")
    rank: int
    target_modules: tuple[str, ...]
    files: tuple[AdapterFile, ...]
    finetune_id: str
    dataset_id: str
    dataset_sha256: str
    license: str | None = Field(default=None, description="the base's licence, which the adapter inherits")
    training: dict[str, Any] = Field(default_factory=dict, description="hyperparameters and final metrics")
    created_at: Timestamp
