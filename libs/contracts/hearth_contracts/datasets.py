"""Datasets: conversations to learn from."""

from enum import StrEnum

from pydantic import Field

from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.names import RecordId


class DatasetFormat(StrEnum):
    """How a row holds its conversation."""

    MESSAGES = "messages"  # {"messages": [{"role", "content"}]}: OpenAI
    SHAREGPT = "sharegpt"  # {"conversations": [{"from", "value"}]}: ShareGPT


class Dataset(Frozen):
    """A dataset that is whole: stored, checked and counted. Lies in S3 as `<id>/metadata.json`."""

    id: RecordId
    name: str = Field(description="the uploaded file's name")
    s3_path: str = Field(description="`<id>/metadata.json`")
    description: str | None
    format: DatasetFormat
    rows: int
    turns: int = Field(description="messages in all rows")
    bytes: int
    sha256: str
    created_at: Timestamp
