"""Whether something fits on this machine: what it needs and what there is, in bytes."""

from enum import StrEnum

from pydantic import Field

from hearth_contracts.base import Frozen


class Resource(StrEnum):
    """What may be short."""

    DISK = "disk"
    MEMORY = "memory"
    GPU_MEMORY = "gpu_memory"  # of each GPU


class Need(Frozen):
    """What is needed of one resource, and what there is of it."""

    resource: Resource
    needed_bytes: int
    parts: dict[str, int] = Field(description="what it is needed for, in bytes; together `needed_bytes`")
    available_bytes: int = Field(description="free now, or freed before it is needed")
    total_bytes: int = Field(description="all there is; what needs more can never fit here")
    fits: bool
    remedy: str = Field(default="", description="what would make it fit, where it does not")


class FitReport(Frozen):
    """The estimate for a download, a deployment or a fine-tune. Nothing was begun."""

    fits: bool
    needs: tuple[Need, ...]
    notes: tuple[str, ...] = Field(default=(), description="what could not be estimated, and why")
