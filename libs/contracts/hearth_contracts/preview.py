"""A look into a dataset."""

from pydantic import Field

from hearth_contracts.base import Frozen
from hearth_contracts.rows import Conversation, PlainText, Preference


class Preview(Frozen):
    """A page of rows."""

    rows: list[Conversation | Preference | PlainText] = Field(
        description="conversations, preference pairs or texts; `line` is where each stands in the file"
    )
    next: str | None = Field(description="the cursor of the next page; null at the end")
