"""Hearth's API from Python.

    from hearth_client import Hearth

    hearth = Hearth()  # HEARTH_URL, HEARTH_API_KEY
    hearth.models.add("HuggingFaceTB/SmolLM2-135M-Instruct").wait(progress=True)

What replies hold is in `hearth_contracts`, the package that the platform itself is written with.
"""

from hearth_client.client import AsyncHearth, Hearth
from hearth_client.errors import (
    Conflict,
    Forbidden,
    HearthClientError,
    Invalid,
    JobFailed,
    Limited,
    NotFound,
    NotReached,
    Refused,
    Superseded,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedReply,
)
from hearth_client.handles import AsyncDeployment, AsyncJobHandle, AsyncRun, Deployment, JobHandle, Run
from hearth_client.progress import Progress

__all__ = [
    "AsyncDeployment",
    "AsyncHearth",
    "AsyncJobHandle",
    "AsyncRun",
    "Conflict",
    "Deployment",
    "Forbidden",
    "Hearth",
    "HearthClientError",
    "Invalid",
    "JobFailed",
    "JobHandle",
    "Limited",
    "NotFound",
    "NotReached",
    "Progress",
    "Refused",
    "Run",
    "Superseded",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnexpectedReply",
]
