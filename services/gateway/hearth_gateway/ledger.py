"""What was used since it was last brought to Redis. In memory, and kept until Redis has acknowledged it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hearth_access.usage_store import UsageOf

DAY_SECONDS: Final = 86400


@dataclass(frozen=True)
class Batch:
    """Usage on its way to Redis: the same numbers under the same number until they have arrived."""

    number: int
    used: Mapping[UsageOf, list[int]]


class Ledger:
    """Counts by day, key and model. Used by the event loop alone."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str], list[int]] = {}  # day since 1970; numbers as in usage_store.COUNTS
        self._on_its_way: Batch | None = None
        self._last_number = 0

    def add(self, key_id: str, model: str, prompt: int, completion: int, embedding: int) -> None:
        """Count one request and its tokens."""
        of = (int(time.time()) // DAY_SECONDS, key_id, model)
        counts = self._counts.get(of)
        if counts is None:
            self._counts[of] = [1, prompt, completion, embedding]
        else:
            counts[0] += 1
            counts[1] += prompt
            counts[2] += completion
            counts[3] += embedding

    def batch(self) -> Batch | None:
        """What to bring to Redis next, None when there is nothing. The same again until `arrived` was called."""
        if self._on_its_way is None and self._counts:
            taken, self._counts = self._counts, {}
            self._last_number += 1
            used = {UsageOf(_day(day), key_id, model): counts for (day, key_id, model), counts in taken.items()}
            self._on_its_way = Batch(self._last_number, used)
        return self._on_its_way

    def arrived(self) -> None:
        """Redis has the batch."""
        self._on_its_way = None


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_SECONDS, UTC).date().isoformat()
