"""What can be deployed and fine-tuned."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from hearth_contracts.base import Frozen, Timestamp


def _inside(name: str) -> str:
    """A path that stays in the folder it is relative to, written in the one way that there is."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in a folder")
    return name


class ModelFile(Frozen):
    """One file of a base model, as it must be wherever it lies."""

    name: Annotated[str, AfterValidator(_inside)] = Field(description="its path in the model's folder, with slashes")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class StoredModel(Frozen):
    """A base model that is whole in a model store."""

    model_id: str
    revision: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the name of its snapshot")
    size_bytes: int
    license: str | None
    created_at: Timestamp
    on_hub: bool = Field(default=False, description="it came from the hub, where `revision` is a commit")
    files: tuple[ModelFile, ...] = Field(default=(), description="its files; none where nobody took their hashes")


class ModelEntry(Frozen):
    """A base model in the model store, or an adapter in S3."""

    model_id: str = Field(description="a base model's hub id, or an adapter's id")
    adapter: bool
    base_model_id: str | None = Field(default=None, description="the base an adapter was trained on; null for a base")
    size_bytes: int | None = None
    license: str | None = Field(default=None, description="as the model's card states it; null where it states none")
    created_at: Timestamp | None = None


class MergeRequest(Frozen):
    """Add an adapter's weights to its base's, as a new base model."""

    model_id: str = Field(description="the id to give it, `name` or `organisation/name`")


class MergeSubject(Frozen):
    """What a MERGE job is about."""

    adapter_id: str
    model_id: str = Field(description="the new model's id")


class MergeSpec(Frozen):
    """What the worker gives the merging process. Paths are absolute, on the worker's disk."""

    model_path: str
    adapter_path: str
    output_dir: str = Field(description="the merged model is written here, whole or not at all")


class ImportRequest(Frozen):
    """Take a model from a folder that an operator put under HEARTH_HOME/imports."""

    model_id: str = Field(description="the id to give it, `name` or `organisation/name`")
    folder: str = Field(description="the folder's name under the import directory: a name, not a path")


class HubModel(Frozen):
    """A model that a search on the hub found."""

    model_id: str
    downloads: int | None = Field(default=None, description="in the last 30 days, as the hub counts them")
    license: str | None = None
    gated: bool = Field(default=False, description="its licence must be accepted on the hub first")
