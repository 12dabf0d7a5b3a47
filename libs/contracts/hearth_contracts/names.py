"""Names and ids that a user may send, and the one pattern each must match.

Every id that reaches a file system, an object key or a command line has passed one of these first.
"""

import re
from typing import Annotated
from uuid import uuid4

from pydantic import StringConstraints

_SEGMENT = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"

MODEL_ID_PATTERN = rf"^{_SEGMENT}(?:/{_SEGMENT})?$"
UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
ADAPTER_ID_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,94}[a-z0-9])?$"

ModelId = Annotated[str, StringConstraints(pattern=MODEL_ID_PATTERN, max_length=96)]
"""A model's id on the Hugging Face hub, `name` or `organisation/name`; no `..` or `--` inside (see `is_model_id`)."""

AdapterId = Annotated[str, StringConstraints(pattern=ADAPTER_ID_PATTERN, max_length=96)]
"""An adapter's id: a slug of the training's name and the first eight digits of its fine-tune's id."""

RecordId = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
"""The id of a job, dataset or fine-tune: a lower-case UUID."""


def new_id() -> str:
    """A fresh random `RecordId`."""
    return str(uuid4())


def is_model_id(text: str) -> bool:
    """Whether `text` can be a hub id: the pattern, and neither `..` nor `--`, which the cache layout reserves."""
    return bool(re.fullmatch(MODEL_ID_PATTERN, text)) and len(text) <= 96 and ".." not in text and "--" not in text


def is_adapter_id(text: str) -> bool:
    """Whether `text` can be an adapter's id."""
    return bool(re.fullmatch(ADAPTER_ID_PATTERN, text))


def is_record_id(text: str) -> bool:
    """Whether `text` can be the id of a job, dataset or fine-tune."""
    return bool(re.fullmatch(UUID_PATTERN, text))


def adapter_id_for(training_name: str, finetune_id: str) -> str:
    """The adapter id of a training: readable, unique, and safe as a model name, path and object key."""
    slug = re.sub(r"[^a-z0-9]+", "-", training_name.lower()).strip("-")[:64].strip("-")
    return f"{slug or 'adapter'}-{finetune_id[:8]}"
