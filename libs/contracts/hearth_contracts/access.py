"""Access: API keys and what they may do, what was used with them, and who changed what."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from hearth_contracts.base import Frozen, Timestamp

KEY_ID_PATTERN = r"^[0-9a-f]{12}$"

KeyName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
"""What people call a key: one line."""


class Role(StrEnum):
    """What a key is for."""

    ADMIN = "admin"  # the whole control plane
    USER = "user"  # inference, and the datasets that were uploaded with the same key


class Limits(Frozen):
    """How much may be done with a key; what is null is not limited."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=10**9, description="inference requests")
    tokens_per_minute: int | None = Field(default=None, ge=1, le=10**12, description="read and written tokens")
    concurrent_requests: int | None = Field(default=None, ge=1, le=10**6, description="at work at once, with streams")
    concurrent_streams: int | None = Field(default=None, ge=1, le=10**6, description="streams at once")


class KeyRequest(Frozen):
    """Make a key."""

    name: KeyName = Field(description="what to call it, e.g. who will use it")
    role: Role = Field(default=Role.USER, description="`admin`: everything; `user`: inference and own datasets")
    limits: Limits = Limits()
    models: tuple[str, ...] | None = Field(default=None, description="names of models it may ask; null for all")
    expires_at: Timestamp | None = Field(default=None, description="when it stops working, UTC; null for never")


class KeyChange(Frozen):
    """What to change of a key; what is left out stays as it is."""

    name: KeyName | None = None
    limits: Limits | None = Field(default=None, description="all limits anew; null for none")
    models: tuple[str, ...] | None = Field(default=None, description="null for all")
    expires_at: Timestamp | None = Field(default=None, description="null for never")


class ApiKey(KeyRequest):
    """What is known of a key. Its secret is not."""

    id: str = Field(pattern=KEY_ID_PATTERN, description="the part of the secret that is no secret")
    created_at: Timestamp
    revoked_at: Timestamp | None = None


class NewKey(ApiKey):
    """A key just made: the only time its secret is shown."""

    secret: str = Field(description="send it as `Authorization: Bearer <secret>`; it cannot be shown again")


class UsageRow(Frozen):
    """What one key used of one model on one day (UTC)."""

    day: str = Field(description="YYYY-MM-DD")
    key_id: str = Field(description="`open` for what was asked without a key")
    model: str = Field(description="the model by the name it was asked by")
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    embedding_tokens: int = 0


class AuditEntry(Frozen):
    """One change that was asked of the control plane, and what became of it."""

    at: Timestamp
    key_id: str = Field(description="who asked; `open` where no key was needed")
    key_name: str
    method: str
    path: str = Field(description="with its query; cut at 1,000 characters")
    status: int = Field(description="the HTTP status of the answer")
    request_id: str
    address: str = Field(description="where the request came from")
