"""Which engine answers to which model name. The truth is the nodes' leases; this is what was last read of it."""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

from hearth_contracts.deploy import DeploymentState, Task
from hearth_jobs import keys
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.first_tokens import Counts, bring
from hearth_jobs.nodes import NodeRegistry
from redis import Redis

log = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
SETTLE_SECONDS = 3.0
"""After an outage of Redis nodes have so long to say anew that they are there: their leases may have ended in it."""
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


def read_table(redis: Redis, deployments: DeploymentStore) -> Table:
    """The routes as Redis has them now."""
    urls: dict[str, list[str]] = {}
    about: dict[str, tuple[Task, str | None, str]] = {}
    for node in NodeRegistry(redis).live():
        if node.state is DeploymentState.READY:
            for name in node.models:
                urls.setdefault(name, []).append(node.url)
                about[name] = (node.task, node.model_id if name in node.adapter_ids else None, node.deployment)
    records = deployments.all()
    expected = {
        name
        for record in records
        for spec in (record.desired, record.serving)
        if spec is not None
        for name in (spec.served_name, spec.model_id, *spec.adapter_ids)
    }
    ready = {name: Route(about[name][0], tuple(found), *about[name][1:]) for name, found in urls.items()}
    may_sleep = {
        name: Route(spec.task, (), spec.model_id if name in spec.adapter_ids else None, record.name)
        for record in records
        if record.idle_after and (spec := record.desired)
        for name in (spec.served_name, spec.model_id, *spec.adapter_ids)
    }
    asleep = frozenset(each.name for each in records if each.is_asleep)
    scaled = frozenset(each.name for each in records if each.max_replicas)
    return Table(ready, frozenset(expected), may_sleep, asleep, scaled)


class RouteWatcher:
    """Keeps a router up to date, in a thread: once a second, and at once when something changed.

    While Redis is away the last known routes stay.
    """

    def __init__(self, redis: Redis, deployments: DeploymentStore, router: Router) -> None:
        self.redis = redis
        self.deployments = deployments
        self.router = router
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="routes", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._over.set()
        self._thread.join()

    def _tell_asked(self) -> None:
        """Say which of the deployments that may sleep were asked for, and wake those that do."""
        asked = self.router.take_asked()
        if asked:
            self.deployments.asked(*asked)
        for name in asked & self.router.table.asleep:
            self.deployments.wake(name)

    def _tell_first_tokens(self) -> None:
        """Bring what was counted of those whose number of engines follows their load."""
        counted, self.router.first_tokens = self.router.first_tokens, {}
        if counted:
            bring(self.redis, counted, self.deployments.clock())

    def _run(self) -> None:
        away = False
        while not self._over.is_set():
            try:
                with self.redis.pubsub(ignore_subscribe_messages=True) as wakes:  # type: ignore[no-untyped-call]
                    wakes.subscribe(keys.WAKE)
                    if away:
                        self._over.wait(SETTLE_SECONDS)
                    while not self._over.is_set():
                        self.router.replace(read_table(self.redis, self.deployments))
                        self._tell_asked()
                        self._tell_first_tokens()
                        if away:
                            log.info("Redis can be read again; routes are fresh again")
                            away = False
                        wakes.get_message(timeout=REFRESH_SECONDS)
            except Exception as error:  # Redis is away, or another version wrote to it: this thread must not end
                if not away:
                    log.warning("Redis cannot be read; the last known routes stay in use: %r", error)
                    away = True
                self._over.wait(REFRESH_SECONDS)
