"""What an answer says it cost, read from the bytes that pass, without encoding them anew.

Streams: an engine tells what was used in a last event, and only if asked; a stream that is cut short would go
uncounted. So the gateway asks the engine to tell it with each event (vLLM's `continuous_usage_stats`), remembers the
newest, and takes what the client did not ask for out of the events again.
"""

import re
from typing import Any, Final

from hearth_gateway.asked import Asked, StreamOptions, Usage, read_usage

USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
KEY: Final = b'"usage"'
COMPACT: Final = b',"usage":{'
NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
INDEX: Final = re.compile(rb'"index"\s*:\s*(\d+)')
EVENT_END: Final = b"\n\n"
LONGEST_EVENT: Final = 1 << 20
"""What has no end by then passes as it is: it is not an event of an engine's."""

LONGEST_USAGE: Final = 1024
"""No engine's usage object is longer."""


class StreamUsage:
    """Reads a stream of events: remembers the newest usage, and passes on what the client asked for."""

    __slots__ = ("_by_choice", "_is_plain", "_n", "_newest", "_rest", "_shows_all", "_shows_last", "events")

    def __init__(self, asked: Asked) -> None:
        self._n = max(asked.n or 1, 1)
        options = asked.stream_options or StreamOptions()
        self._shows_last = options.include_usage is True
        self._shows_all = self._shows_last and options.continuous_usage_stats is True
        self._by_choice: dict[int, bytes] | None = {} if asked.has_choices else None
        self._is_plain = self._by_choice is None  # usage is that of the newest event
        self._newest = b""
        self._rest = b""
        self.events = 0

    def feed(self, data: bytes) -> bytes:
        """The whole events of what came, as the client is to see them; an event that is not whole waits for its end."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        end = data.find(EVENT_END)
        if end == len(data) - 2 and end >= 0:
            return self._event(data)
        shown = []
        at = 0
        while end >= 0:
            shown.append(self._event(data[at : end + 2]))
            at = end + 2
            end = data.find(EVENT_END, at)
        self._rest = data[at:]
        if len(self._rest) > LONGEST_EVENT:
            shown.append(self.rest())
        return b"".join(shown)

    def rest(self) -> bytes:
        """What came of an event that is not whole."""
        rest, self._rest = self._rest, b""
        return rest

    def _event(self, event: bytes) -> bytes:
        self.events += 1
        at = event.rfind(COMPACT)
        if at >= 0 and self._is_plain and event.endswith(b"}}\n\n") and event.find(b"{", at + len(COMPACT)) < 0:
            # How vLLM writes nearly every event; the rest of this method says the same for any JSON.
            self._newest = event[at + len(COMPACT) - 1 : -3]
            if event.endswith(b'"choices":[]', 0, at):
                return event if self._shows_last else b""
            return event if self._shows_all else event[:at] + b"}\n\n"
        return self._any_event(event)

    def _any_event(self, event: bytes) -> bytes:
        at = event.rfind(KEY)
        while at >= 0:
            found = USAGE.match(event, at)
            if found is not None:
                break
            at = event.rfind(KEY, 0, at)
        else:
            return event
        if NO_CHOICES.search(event) is not None:
            self._by_choice = None  # it sums them up
            self._is_plain = True
            self._newest = found[1]
            return event if self._shows_last else b""
        if self._by_choice is None:
            self._newest = found[1]
        else:
            index = INDEX.search(event)
            self._by_choice[int(index[1]) if index else 0] = found[1]
        if self._shows_all:
            return event
        before, after = event[:at].rstrip(), event[found.end() :]
        if before.endswith(b","):
            return before[:-1] + after
        return before + after.lstrip().removeprefix(b",")

    def used(self) -> Usage:
        """The newest that was told."""
        if not self._by_choice:
            return read_usage(self._newest)
        each = {index: read_usage(told) for index, told in self._by_choice.items()}
        prompts = {index // self._n: usage.prompt_tokens for index, usage in each.items()}
        return Usage(sum(prompts.values()), sum(usage.completion_tokens or 0 for usage in each.values()))


class ReplyUsage:
    """Finds the usage in a whole reply while its pieces pass; keeps a kilobyte at most."""

    __slots__ = ("_found", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._found = b""

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if self._found and len(self._found) < LONGEST_USAGE:
            self._found += data[:LONGEST_USAGE]
        seam = self._tail + data[: len(KEY)]
        at = data.rfind(KEY)
        if at >= 0:
            self._found = data[at : at + LONGEST_USAGE]
        elif KEY in seam:
            self._found = seam[seam.rfind(KEY) :] + data[len(KEY) : LONGEST_USAGE]
        self._tail = (self._tail + data[-len(KEY) + 1 :])[-len(KEY) + 1 :]

    def used(self) -> Usage:
        """What it said; nothing if it said nothing."""
        found = self._found
        end = found.find(b"}")
        if found.startswith(COMPACT[1:]) and found.find(b"{", len(COMPACT) - 1, end) < 0 <= end:
            return read_usage(found[len(COMPACT) - 2 : end + 1])  # as vLLM writes it
        told = USAGE.match(found)
        return read_usage(told[1]) if told is not None else Usage()


def tokens(usage: Usage, *, embeds: bool) -> dict[str, Any]:
    """As the door counts them."""
    if embeds:
        return {"embedding_tokens": usage.total_tokens or usage.prompt_tokens}
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens or 0}
