"""Reads the routes from Redis: which nodes serve, as they say themselves, and what is desired."""

import logging
import threading

from hearth_contracts.deploy import DeploymentState, Task
from hearth_jobs import keys
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.first_tokens import bring
from hearth_jobs.nodes import NodeRegistry
from redis import Redis

from hearth_gateway.routing import Route, Router, Table

log = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
SETTLE_SECONDS = 3.0
"""After an outage of Redis nodes have so long to say anew that they are there: their leases may have ended in it."""


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
