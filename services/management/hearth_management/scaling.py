"""How many engines a deployment takes by its load, between its `replicas` and its `max_replicas`.

The algorithm is that of Kubernetes' Horizontal Pod Autoscaler: engines * metric / target, rounded up, no change within
a tolerance, and every look's advice kept for a window, of which fewer engines take the highest and more the lowest
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/). The metric is what is at work and
waits in the engines. Its target is not set by hand: an engine is full when requests wait in it, and what it has at work
then is what it can have. `step` is a pure function; the reconciler gives it the time and records what it says.
"""

import logging
from dataclasses import dataclass
from functools import partial
from math import ceil

from hearth_contracts.deploy import DeploymentState
from hearth_jobs.by_load import Advice, rescale
from hearth_jobs.deployment_record import ByLoad, Deployment
from hearth_jobs.first_tokens import lately

from hearth_management.config import ManagementSettings
from hearth_management.services import Services

log = logging.getLogger(__name__)

TOLERANCE = 0.1
"""So much above the target is none."""
ROOM = 0.8
"""Fewer engines must be enough though each is filled to this share only, or requests would wait again at once."""


@dataclass(frozen=True)
class Load:
    """What a deployment's engines have to do, all of them together."""

    ready: int  # engines that answer requests
    running: float
    waiting: float
    first_token: float | None = None  # seconds that the slowest stream of 20 waited for it; None where that is unknown


@dataclass(frozen=True)
class Rules:
    """When there are to be more engines, and when fewer."""

    waiting: float  # requests that may wait in each engine
    first_token: float  # seconds that one stream of 20 may wait for its first token; 0: any time
    up_seconds: float  # more wait, or longer, all this time: more engines
    down_seconds: float  # fewer would do for so long: fewer engines

    @property
    def window(self) -> float:
        """How long advice counts."""
        return max(self.up_seconds, self.down_seconds)


def step(record: Deployment, advice: Advice, *, load: Load, rules: Rules, now: float) -> tuple[ByLoad | None, Advice]:
    """How many engines there are to be from now on, and the advice with that of this moment."""
    current = record.desired_replicas
    full_at = record.by_load.full_at if record.by_load is not None else 0.0
    wanted = _bounded(record, advised(load, current, full_at, rules))
    advice = _noted(advice, current, wanted, now, rules.window)
    number = _bounded(record, _settled(advice, current, now, rules))
    if number > current:
        return ByLoad(replicas=number, reason=_why_more(load, rules), full_at=load.running / load.ready), advice
    if number < current:
        words = f"for {rules.down_seconds:g} s so few were enough"
        return ByLoad(replicas=number, reason=words, full_at=full_at), advice
    return record.by_load, advice


def advised(load: Load, current: int, full_at: float, rules: Rules) -> int:
    """How many engines the load of this moment takes, where there are to be `current` now; not bounded.

    As long as engines are on their way, or wait for a node, there are not to be more.
    """
    if not load.ready:
        return current
    asked = load.running + load.waiting
    if _too_many_wait(load, rules) or _wait_too_long(load, rules):
        target = load.running / load.ready + rules.waiting
        return max(current + 1, ceil(asked / target)) if load.ready >= current else current
    if not asked:
        return 1
    return ceil(asked / (ROOM * full_at)) if asked < current * ROOM * full_at else current


def _too_many_wait(load: Load, rules: Rules) -> bool:
    return load.waiting / load.ready > rules.waiting * (1 + TOLERANCE)


def _wait_too_long(load: Load, rules: Rules) -> bool:
    return bool(rules.first_token) and (load.first_token or 0) > rules.first_token * (1 + TOLERANCE)


def _why_more(load: Load, rules: Rules) -> str:
    if _too_many_wait(load, rules):
        return f"{load.waiting / load.ready:.0f} requests waited in each engine, longer than {rules.up_seconds:g} s"
    return f"one stream in 20 waited {load.first_token:.2g} s for its first token, longer than {rules.up_seconds:g} s"


def _bounded(record: Deployment, number: int) -> int:
    return min(max(number, record.replicas), max(record.replicas, record.max_replicas))


def _noted(advice: Advice, current: int, wanted: int, now: float, window: float) -> Advice:
    """With what is wanted now, and without what is too old. Before there was any, the advice was to stay."""
    entries = advice.root or ((now, current),)
    if entries[-1][1] != wanted:
        entries = (*entries, (now, wanted))
    ends = [since for since, _ in entries[1:]]
    return Advice((*(each for each, end in zip(entries, ends, strict=False) if end >= now - window), entries[-1]))


def _settled(advice: Advice, current: int, now: float, rules: Rules) -> int:
    """The number that all advice of the last seconds agrees on; the current one as long as it does not."""
    entries = advice.root
    ends = [*(since for since, _ in entries[1:]), now]

    def within(seconds: float) -> list[int]:
        return [number for (_, number), end in zip(entries, ends, strict=True) if end >= now - seconds]

    if (lowest := min(within(rules.up_seconds))) > current:
        return lowest
    return min(current, max(within(rules.window)))


# -- the deployments that there are ----------------------------------------------------------------------------


def scale_by_load(services: Services, deployments: list[Deployment], now: float) -> None:
    """One look at every deployment whose number of engines follows its load, at the time `now`."""
    scaled = [each for each in deployments if each.max_replicas and each.desired is not None and not each.is_asleep]
    nodes, limits = services.nodes.live() if scaled else [], rules(services.settings)
    for record in scaled:
        ready = [node for node in nodes if node.deployment == record.name and node.state is DeploymentState.READY]
        loads = services.nodes.loads(ready)
        if len(loads) < len(ready):
            continue  # one that has just begun to serve: what it has to do is not known yet
        load = Load(
            len(ready),
            running=sum(each.running for each in loads),
            waiting=sum(each.waiting for each in loads),
            first_token=lately(services.redis, record.name, now).percentile(0.95) if limits.first_token else None,
        )
        rescale(services.redis, record.name, partial(_told, load=load, rules=limits, now=now))


def rules(settings: ManagementSettings) -> Rules:
    """As they are set."""
    return Rules(
        waiting=settings.scale_waiting,
        first_token=settings.scale_first_token_seconds,
        up_seconds=settings.scale_up_seconds,
        down_seconds=settings.scale_down_seconds,
    )


def _told(record: Deployment, advice: Advice, *, load: Load, rules: Rules, now: float) -> tuple[ByLoad | None, Advice]:
    """`step`, with a line in the log where the number changes."""
    by_load, after = step(record, advice, load=load, rules=rules, now=now)
    if by_load is not None and by_load != record.by_load:
        before = record.desired_replicas
        log.info("deployment %s: %d replicas instead of %d: %s", record.name, by_load.replicas, before, by_load.reason)
    return by_load, after
