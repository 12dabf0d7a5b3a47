"""What time it is for S3, at the least: from LastModified, which S3 writes by its own clock, and the time that passed
here."""

import time


class ServerClock:
    """A lower bound of S3's clock. Whoever saw LastModified L at a moment knows that S3's clock stood at L or later
    then."""

    def __init__(self) -> None:
        self._ahead: float | None = (
            None  # of time.monotonic(), which never runs back and stands still in a suspended machine
        )

    def saw(self, modified: float) -> None:
        """An object that is there was last modified at `modified`, seconds since 1970."""
        ahead = modified - time.monotonic()
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)

    def at(self, moment: float) -> float:
        """At which time or later S3's clock stood when `time.monotonic()` gave `moment`; 0 when nothing was seen yet.

        It is not later than this machine's own clock says now: should S3's ever be set back, the bound goes back too.
        """
        return 0.0 if self._ahead is None else min(moment + self._ahead, time.time())
