"""Which engine answers to which model name. The truth is the nodes' leases; this is what `routes` last read of it."""

import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

from hearth_contracts.deploy import Task
from hearth_jobs.first_tokens import Counts

SHUN_SECONDS = 3.0
MOST_ABOVE_MEAN = 1.25
"""Affinity gives way when an engine has so many times the mean of outstanding requests (bounded load)."""

COMPARED = 16
"""Of more engines than that only the next few in turn are compared for a request: to sort a thousand takes longer than
all else that a request costs, and the best of sixteen is nearly as idle as the best of all."""


@dataclass(frozen=True)
class Route:
    """A model name, and the engines that answer to it."""

    task: Task
    urls: tuple[str, ...]
    base: str | None  # the base's id where the name is an adapter's, else None
    deployment: str


@dataclass(frozen=True)
class Table:
    """All routes at one moment."""

    ready: dict[str, Route] = field(default_factory=dict)
    expected: frozenset[str] = frozenset()  # names that are desired, ready or not
    may_sleep: dict[str, Route] = field(default_factory=dict)  # those whose deployment may sleep: routes with no engine
    asleep: frozenset[str] = frozenset()  # deployments of which no engine runs until somebody asks
    scaled: frozenset[str] = frozenset()  # deployments whose number of engines follows their load


class Router:
    """Routes in memory, read by the event loop without a lock: the table is replaced whole."""

    def __init__(self) -> None:
        self.table = Table()
        self.loaded = False
        self.asked: set[str] = set()  # deployments that were asked for since the watcher last looked
        self.first_tokens: dict[str, Counts] = {}  # by deployment, since the watcher last looked
        self._outstanding: Counter[str] = Counter()
        self._shunned: dict[str, float] = {}
        self._turn = 0

    def replace(self, table: Table) -> None:
        """Take a newer table."""
        self.table = table
        self.loaded = True

    def choices(self, route: Route, prefix: bytes = b"") -> list[str]:
        """Engines to try, the one with the fewest outstanding requests first; those that refused lately last.

        With a `prefix` the engine that prompts with this prefix go to comes first, unless it has too much to do.
        """
        if len(route.urls) == 1:
            return [*route.urls]
        urls = route.urls if prefix else self._some(route.urls)
        now = time.monotonic()
        loads = {url: self._outstanding[url] for url in urls}
        most = MOST_ABOVE_MEAN * (sum(loads.values()) + 1) / len(loads) if prefix else -1

        def order(url: str) -> tuple[bool, bool, int]:
            is_bound = loads[url] < most
            return (self._shunned.get(url, 0) > now, not is_bound, _rank(url, prefix) if is_bound else loads[url])

        return sorted(urls, key=order)

    def _some(self, urls: tuple[str, ...]) -> tuple[str, ...]:
        if len(urls) <= COMPARED:
            return urls
        first = self._turn % len(urls)
        self._turn = first + COMPARED
        some = urls[first : first + COMPARED]
        return some + urls[: COMPARED - len(some)]

    def take_asked(self) -> set[str]:
        """Those that may sleep and were asked for since this was last called, or have a request at work.

        For one thread beside the event loop.
        """
        asked, self.asked = self.asked, set()
        table, busy = self.table, set(self._outstanding)
        routes = [table.ready.get(name, asleep) for name, asleep in table.may_sleep.items()]
        return {each.deployment for each in routes if each.deployment in asked or not busy.isdisjoint(each.urls)}

    def first_token(self, name: str, seconds: float) -> None:
        """An engine took so long to the first token of a stream that was asked for by this name."""
        route = self.table.ready.get(name)
        if route is not None and route.deployment in self.table.scaled:
            self.first_tokens.setdefault(route.deployment, Counts()).add(seconds)

    def begin(self, url: str) -> None:
        """A request goes to this engine."""
        self._outstanding[url] += 1

    def end(self, url: str) -> None:
        """It is over, however it ended."""
        self._outstanding[url] -= 1
        if not self._outstanding[url]:
            del self._outstanding[url]

    def shun(self, url: str) -> None:
        """This engine refused a connection: try others first for a while."""
        self._shunned[url] = time.monotonic() + SHUN_SECONDS


def _rank(url: str, prefix: bytes) -> int:
    """Rendezvous hashing: of all engines one has the lowest rank for a prefix, and keeps it as others come and go."""
    return int.from_bytes(blake2b(prefix, key=url.encode()[:64], digest_size=8).digest())
