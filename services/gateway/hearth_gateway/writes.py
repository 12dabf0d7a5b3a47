"""What is to be sent in one turn of the event loop, sent together at its end.

A write wakes whoever reads the other end, and on most machines that is the dearest part of it: a third of what a
gateway costs. Of writes that follow each other closely only the first does.
"""

import asyncio
from collections.abc import Callable
from typing import Final

FEW: Final = 8
"""With so many requests at work or less each write is done at once: there is nothing to wait for."""

MOST_TOGETHER: Final = 32
"""So many are not kept waiting for the end of the turn, so that the other end works meanwhile."""

MOST_JOINED: Final = 65536
"""Bytes that are worth a write of their own."""


class Writes:
    """Writes that are due, in order. Used by the event loop alone, whose `call_soon` it is given."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self.at_work = 0  # requests
        self._call_soon = call_soon
        self._transports: list[asyncio.Transport] = []
        self._data: list[bytes] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send bytes, before this turn of the event loop ends.

        Many are sent now, so that their sender is held back as soon as the other end does not keep up.
        """
        due = len(self._transports)
        if len(data) >= MOST_JOINED:
            self.flush()
            transport.write(data)
            return
        if due == 0:
            if self.at_work <= FEW:
                transport.write(data)
                return
            self._call_soon(self.flush)
        elif self._transports[due - 1] is transport:
            self._data[due - 1] += data
            return
        elif due >= MOST_TOGETHER:
            self.flush()
            self._call_soon(self.flush)
        self._transports.append(transport)
        self._data.append(data)

    def flush(self) -> None:
        """Send all of them now. To be called before anything else is done to a transport that may have some."""
        transports, data = self._transports, self._data
        self._transports, self._data = [], []
        for transport, its in zip(transports, data, strict=True):
            if not transport.is_closing():
                transport.write(its)
