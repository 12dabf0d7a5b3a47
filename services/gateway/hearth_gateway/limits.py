"""What is left of one key's limits, as this gateway knows it. In memory: asking costs no round trip.

An allowance is a bucket that holds one minute's worth and fills again evenly. The truth is in Redis: five times a
second each gateway settles there what it spent and takes over what is left (`keeper`). What was spent meanwhile is a
debt that is paid back, so over time limits hold exactly however many gateways there are.
"""

import math
import time
from typing import NamedTuple

from hearth_access.rate_store import Left, Spent
from hearth_contracts.access import Limits


class Over(NamedTuple):
    """A limit that is reached."""

    limit: str  # in words
    kind: str  # OpenAI's word for it: requests, tokens
    seconds: float  # until it may not be any more


class Bucket:
    """A minute's allowance. `level` may be below 0: what a request needs may be known only when it is over."""

    __slots__ = ("_lines", "at", "level", "per_minute", "unsettled")

    def __init__(self, per_minute: int, kind: bytes) -> None:
        lines = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
        self._lines = lines % (kind, per_minute, kind, kind)
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.at = time.monotonic()
        self.unsettled = 0

    def refill(self, now: float) -> float:
        """What is left now."""
        level = self.level + (now - self.at) * self.per_minute / 60
        self.level = level if level < self.per_minute else float(self.per_minute)
        self.at = now
        return self.level

    def spend(self, amount: int) -> None:
        """Take so much."""
        self.level -= amount
        self.unsettled += amount

    def seconds_until(self, level: float) -> float:
        """How long it takes to fill up to `level`, 0 if there is as much."""
        return max(0.0, (level - self.level) * 60 / self.per_minute)

    def lines(self) -> bytes:
        """What OpenAI's clients read of it, as headers' lines."""
        level, full = self.level, self.per_minute
        return self._lines % (level if level > 0 else 0, span((full - level) * 60 / full))

    def settled(self, left: float) -> None:
        """Take over what is left by Redis; it does not know yet of what was spent while it was asked."""
        self.level = left - self.unsettled
        self.at = time.monotonic()


class Meter:
    """One key's limits and what is at work with it. Used by the event loop alone."""

    def __init__(self, key_id: str, limits: Limits) -> None:
        self.key_id = key_id
        self.at_work = 0
        self.streams = 0
        self.at_work_elsewhere = 0
        self.streams_elsewhere = 0
        self._told_at_work = 0
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Take other limits; what is at work goes on."""
        self.limits = limits
        self.requests = Bucket(limits.requests_per_minute, b"requests") if limits.requests_per_minute else None
        self.tokens = Bucket(limits.tokens_per_minute, b"tokens") if limits.tokens_per_minute else None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to settle: nothing at work, nothing spent, everything filled up again."""
        if self.at_work or self._told_at_work or self.at_work_elsewhere:
            return False
        now = time.monotonic()
        buckets = [bucket for bucket in (self.requests, self.tokens) if bucket is not None]
        return all(not bucket.unsettled and bucket.refill(now) >= bucket.per_minute for bucket in buckets)

    def over(self, stream: bool) -> Over | None:
        """What keeps a request from being taken now, if anything does."""
        limits = self.limits
        busy = self.at_work + self.at_work_elsewhere
        if limits.concurrent_requests is not None and busy >= limits.concurrent_requests:
            return Over(f"{limits.concurrent_requests} requests at once", "requests", 1.0)
        streams = self.streams + self.streams_elsewhere
        if stream and limits.concurrent_streams is not None and streams >= limits.concurrent_streams:
            return Over(f"{limits.concurrent_streams} streams at once", "requests", 1.0)
        now = time.monotonic()
        if self.requests is not None and self.requests.refill(now) < 1:
            wait = self.requests.seconds_until(1)
            return Over(f"{self.requests.per_minute} requests per minute", "requests", wait)
        if self.tokens is not None and self.tokens.refill(now) < 1:
            return Over(f"{self.tokens.per_minute} tokens per minute", "tokens", self.tokens.seconds_until(1))
        return None

    def begin(self, stream: bool) -> None:
        """A request is taken."""
        self.at_work += 1
        self.streams += stream
        if self.requests is not None:
            self.requests.spend(1)

    def end(self, stream: bool, tokens: int) -> None:
        """It is over, and took so many tokens."""
        self.at_work -= 1
        self.streams -= stream
        if self.tokens is not None:
            self.tokens.spend(tokens)

    def lines(self) -> bytes:
        """What OpenAI's clients read, as headers' lines; none for what is not limited."""
        requests, tokens = self.requests, self.tokens
        return (requests.lines() if requests is not None else b"") + (tokens.lines() if tokens is not None else b"")

    def take_spent(self) -> Spent:
        """What is to be settled; `settled` or `not_settled` must follow."""
        requests, tokens = self.requests, self.tokens
        spent = Spent(
            key_id=self.key_id,
            requests_per_minute=requests.per_minute if requests else 0,
            requests=requests.unsettled if requests else 0,
            tokens_per_minute=tokens.per_minute if tokens else 0,
            tokens=tokens.unsettled if tokens else 0,
            at_work=self.at_work,
            streams=self.streams,
        )
        for bucket in (requests, tokens):
            if bucket is not None:
                bucket.unsettled = 0
        self._told_at_work = self.at_work
        return spent

    def settled(self, left: Left) -> None:
        """Redis took it and says what is left."""
        if self.requests is not None:
            self.requests.settled(left.requests)
        if self.tokens is not None:
            self.tokens.settled(left.tokens)
        self.at_work_elsewhere = left.at_work_elsewhere
        self.streams_elsewhere = left.streams_elsewhere

    def not_settled(self, spent: Spent) -> None:
        """Redis is away: settle it later, and hold the limits alone until then."""
        if self.requests is not None:
            self.requests.unsettled += spent.requests
        if self.tokens is not None:
            self.tokens.unsettled += spent.tokens
        self.at_work_elsewhere = self.streams_elsewhere = 0


def span(seconds: float) -> bytes:
    """A length of time as OpenAI writes it: `12ms`, `1.5s`, `1m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(max(seconds, 0) * 1000)
    minutes, rest = divmod(math.ceil(seconds * 1000) / 1000, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return (f"{minutes:.0f}m{text}s" if minutes else f"{text}s").encode()
