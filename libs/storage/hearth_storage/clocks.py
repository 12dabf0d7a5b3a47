"""How much time passed, at the most and at the least, and what time it is for S3.

S3 writes LastModified by its own clock; how far ours is off it nobody knows.
"""

import time

DRIFT = 0.001
"""How much faster than S3's our clock may run: some 20 times what clocks do, twice what ntpd makes them do."""

Moment = tuple[float, float]
"""The time of day, which can be set, and the time since the machine started, its sleep included; seconds."""


def moment() -> Moment:
    """Now."""
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


def passed(since: Moment) -> float:
    """Seconds since then, by the clock that ran most."""
    return max(now - then for now, then in zip(moment(), since, strict=True))


class ServerClock:
    """A lower bound of S3's clock. Whoever saw LastModified L at a moment knows that S3's clock stood at L or later
    then."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None  # such an L, and time.monotonic() then, which no sleep moves

    def saw(self, modified: float) -> None:
        """An object that is there was last modified at `modified`, seconds since 1970."""
        now = time.monotonic()
        if self._seen is None or modified >= self._from(self._seen, now):
            self._seen = (modified, now)

    def at(self, moment: float) -> float:
        """At which time or later S3's clock stood when `time.monotonic()` gave `moment`; 0 when nothing was seen yet.

        It is not later than this machine's own clock says now: should S3's ever be set back, the bound goes back too.
        """
        return 0.0 if self._seen is None else min(self._from(self._seen, moment), time.time())

    @staticmethod
    def _from(seen: tuple[float, float], moment: float) -> float:
        modified, then = seen
        return modified + (moment - then) - abs(moment - then) * DRIFT
