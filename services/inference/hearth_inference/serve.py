"""What RQ runs: look after one deployment until nothing is desired of it any more."""

import contextlib
import logging
import signal
import threading
from types import FrameType

from hearth_contracts.deploy import NodeReport
from hearth_jobs import keys, owners
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.store import JobStore
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect as connect_s3
from hearth_telemetry import traces
from redis import Redis
from redis.exceptions import RedisError

from hearth_inference.config import InferenceSettings
from hearth_inference.engines import driver_for
from hearth_inference.holdings import Holdings
from hearth_inference.keeper import Keeper
from hearth_inference.node import Node

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 0.5


def run(deployment_name: str) -> None:
    """Serve this deployment, until nothing is desired of it, or this worker is told to stop."""
    settings = InferenceSettings()
    redis = connect(RedisSettings())
    jobs, nodes = JobStore(redis), NodeRegistry(redis)
    stopping = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    if other := served_by(nodes, deployment_name):
        log.info("deployment %s is served by %s already", deployment_name, other)
        return
    with Keeper(jobs, nodes) as keeper:
        home, deployments = HomeSettings(), DeploymentStore(redis, jobs)
        holdings = Holdings(
            name=deployment_name,
            home=home,
            deployments=deployments,
            jobs=jobs,
            keeper=keeper,
            node_id=str(owners.this_process()),
            served_elsewhere=lambda: served_by(nodes, deployment_name) is not None,
        )
        node = Node(
            name=deployment_name,
            settings=settings,
            home=home,
            driver=driver_for(settings),
            deployments=deployments,
            s3=connect_s3(S3Settings()),
            keeper=keeper,
            holdings=holdings,
        )
        _loop(node, redis, stopping)
    traces.flush()


def _loop(node: Node, redis: Redis, stopping: threading.Event) -> None:
    """Look at the record twice a second and whenever something changed."""
    goes_on = True
    pubsub = redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    with contextlib.closing(pubsub) as wakes:
        try:
            while goes_on and not stopping.is_set():
                try:
                    goes_on = node.tick()
                    if goes_on:
                        if not wakes.subscribed:  # once: each subscription is answered, which would wake us
                            wakes.subscribe(keys.WAKE)
                        wakes.get_message(timeout=_PERIOD_SECONDS)
                except RedisError as error:
                    log.warning("Redis is away; what is served goes on: %s", error)
                    stopping.wait(_PERIOD_SECONDS)
        except Exception as error:
            log.exception("looking after %s failed in a way nobody foresaw", node.name)
            node.broke(error)
        finally:
            node.shut_down()


def served_by(nodes: NodeRegistry, deployment_name: str) -> str | None:
    """Another node that lives and serves this deployment."""
    others = (report for report in nodes.live() if report.deployment == deployment_name)
    return next((report.node_id for report in others if _lives(report)), None)


def _lives(report: NodeReport) -> bool:
    """False for this process, and for a node of this machine whose process is gone, whatever its report says."""
    if report.node_id == str(owners.this_process()):
        return False
    owner = owners.parse(report.node_id)
    return owner is None or owners.lives(owner) is not False
