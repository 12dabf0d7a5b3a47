"""Datasets: rows to learn from."""

from enum import StrEnum

from pydantic import Field

from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.names import RecordId


class DatasetFormat(StrEnum):
    """What a row looks like. `rows.py` beside this file says how each is read."""

    MESSAGES = "messages"  # {"messages": [{"role", "content"}], "tools"}: OpenAI
    SHAREGPT = "sharegpt"  # {"conversations": [{"from", "value"}]}: ShareGPT
    PROMPT_COMPLETION = "prompt_completion"  # {"prompt", "completion"}: texts, or lists of messages
    ALPACA = "alpaca"  # {"instruction", "input", "output"}
    PREFERENCE = "preference"  # {"chosen", "rejected"}, with or without "prompt": TRL
    OPENAI_PREFERENCE = "openai_preference"  # {"input": {"messages"}, "preferred_output", "non_preferred_output"}
    TEXT = "text"  # {"text"}: no turns, every token is learnt


class Dataset(Frozen):
    """A dataset that is whole: stored, checked and counted. Lies in S3 as `<id>/metadata.json`; never changes."""

    id: RecordId
    name: str = Field(description="the uploaded file's name")
    s3_path: str = Field(description="`<id>/metadata.json`")
    description: str | None
    format: DatasetFormat
    rows: int
    turns: int = Field(description="messages in all rows; of a preference pair the prompt's once, and both answers'")
    bytes: int = Field(description="of the rows as JSON lines, as they are stored and come back")
    sha256: str = Field(description="of those bytes")
    duplicates: int | None = Field(
        default=None, description="rows that repeat an earlier row byte for byte; null where nobody counted"
    )
    duplicates_exact: bool = Field(default=True, description="false: a sample was counted, and scaled up")
    content_id: RecordId | None = Field(
        default=None, description="the rows lie at `<content_id>/data.jsonl`, shared; null: at `<id>/data.jsonl`"
    )
    created_at: Timestamp
    owner: str | None = Field(default=None, description="id of the API key it was uploaded with, if one was needed")


class TokenCount(Frozen):
    """How long a dataset is for a model."""

    model_id: str
    dataset_id: RecordId
    rows: int
    tokens: int = Field(
        description="of all that the rows say, by the model's tokenizer; its chat template adds a few a message"
    )
    longest_row: int = Field(description="tokens of the longest row that was counted")
    exact: bool = Field(description="false: of a large dataset a sample was counted, and scaled up")
