"""What the machine has left, and what waits for it: the figures of a console's first page."""

from pydantic import Field

from hearth_contracts.base import Frozen


class Space(Frozen):
    """How much there is of something, and how much of that is free, in bytes."""

    total_bytes: int
    free_bytes: int


class QueueReport(Frozen):
    """One queue of jobs."""

    queue: str = Field(
        description="`downloads`, `training`, `training-cluster` (runs that only a Ray cluster can do; told where a "
        "worker has one, or a run waits for one), `inference-llm` or `inference-embedding`"
    )
    waiting: int = Field(description="items that no worker has taken yet")
    workers: int = Field(description="workers that take items; 0: nothing of this queue will begin")


class SystemReport(Frozen):
    """The machine that management runs on, and the queues of all machines."""

    memory: Space = Field(description="free: what can be taken without swapping")
    gpus: tuple[Space, ...] = Field(description="the memory of each NVIDIA GPU")
    disk: Space = Field(description="where models and runs lie")
    queues: tuple[QueueReport, ...]
    imports: tuple[str, ...] = Field(description="folders under HEARTH_HOME/imports, which can be taken as models")
