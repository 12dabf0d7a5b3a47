"""The token path with more and more inference nodes: what a request costs gateway and Redis, and what routes cost."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport, Task
from hearth_gateway.routes import read_table
from hearth_gateway.routing import Router
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.store import JobStore
from redis import Redis

from tests.bench.gateway.__main__ import Measure, build, run
from tests.bench.gateway.contenders import LOAD_CORE, Contender, await_answer, hearth, process
from tests.bench.scale.counting import Cost, cost, counts
from tests.support.servers import free_port

FEW, MANY = 50, 400
"""Requests a second that even a busy machine answers."""


class Asked(NamedTuple):
    """Commands a second that Redis carried out for one gateway and its nodes, at two rates of requests."""

    few: float
    many: float

    @property
    def a_request(self) -> float:
        """Commands that each request more has cost."""
        return (self.many - self.few) / (MANY - FEW)


class Gateways(NamedTuple):
    """What was measured of one number of nodes."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the gateway's process, for a request: what else the machine does counts little in it
    asked: Asked


@contextmanager
def gateway(programs: Path, nodes: int) -> Iterator[Contender]:
    """One, over so many mock engines."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(nodes)]
        for port in ports:
            stack.enter_context(process(LOAD_CORE, [str(programs / "engine"), str(port)]))
        running = stack.enter_context(hearth(ports, programs))
        await_answer(running)
        yield running


def through_gateway(programs: Path, sizes: tuple[int, ...], seconds: float) -> dict[int, Gateways]:
    """Requests a second through one gateway process with one key, by the number of nodes."""
    for name in ("load", "engine"):
        build(name, programs)
    found = {}
    for size in sizes:
        with gateway(programs, size) as running:
            assert running.redis is not None
            ask = partial(run, str(programs / "load"), running)
            few, many = (
                _a_second(running.redis, partial(ask, Measure("offered", 16, seconds=seconds, rate=rate)))
                for rate in (FEW, MANY)
            )
            busy = _processor_seconds(running.pid)
            figures = ask(Measure("closed", 64, seconds=seconds))
            cpu_us = (_processor_seconds(running.pid) - busy) / (figures["per_s"] * seconds) * 1e6
            latencies = (figures["p50"] * 1000, figures["p99"] * 1000)
            found[size] = Gateways(figures["per_s"], *latencies, cpu_us, Asked(few, many))
    return found


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _a_second(redis: Redis, while_this: Callable[[], object]) -> float:
    """Commands a second, meanwhile."""
    before, began = counts(redis).commands, time.monotonic()
    while_this()
    return (counts(redis).commands - before) / (time.monotonic() - began)


def routes(redis: Redis, sizes: tuple[int, ...]) -> dict[int, dict[str, Cost]]:
    """With so many nodes of one deployment: what a gateway does each second, and what it does for each request."""
    found = {}
    registry, deployments = NodeRegistry(redis), DeploymentStore(redis, JobStore(redis))
    for size in sizes:
        redis.flushall()
        reports = [_report(number) for number in range(size)]
        for report in reports:
            registry.report(report)
        router = Router()
        router.replace(read_table(redis, deployments))
        route = router.table.ready["Compressa-LLM"]
        assert len(route.urls) == size
        found[size] = {
            "read the routes": cost(redis, partial(read_table, redis, deployments), 20),
            "choose an engine": cost(redis, partial(router.choices, route), 200),
            "renew a node's lease": cost(redis, partial(registry.report, reports[0]), 20),
        }
    return found


def _report(number: int) -> NodeReport:
    return NodeReport(
        node_id=f"node-{number}:1:1@x", deployment="default", engine=Engine.VLLM, task=Task.GENERATE,
        state=DeploymentState.READY, url=f"http://10.{number >> 8}.{number & 255}.1:8000", model_id="org/base",
        models=("Compressa-LLM", "org/base"), generation=1,
    )  # fmt: skip
