"""Uploads in parts: what the dataset service and its clients tell each other."""

from pydantic import Field

from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.names import RecordId


class NewUpload(Frozen):
    """What the parts will be together."""

    name: str = Field(min_length=1, max_length=255, description="the file's name")
    description: str | None = Field(default=None, description="dataset description")


class UploadPart(Frozen):
    """A part that has arrived whole."""

    number: int
    bytes: int


class Upload(Frozen):
    """An upload in parts, and how far it is."""

    id: RecordId
    name: str
    description: str | None
    created_at: Timestamp
    parts: tuple[UploadPart, ...] = Field(default=(), description="what has arrived, by number")
    dataset_id: RecordId | None = Field(default=None, description="what it became, once it is complete")


class PartUrl(Frozen):
    """Where a part can be put straight into S3: `PUT` with the bytes as the body."""

    url: str
    expires_at: Timestamp
