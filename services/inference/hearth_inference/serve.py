"""What RQ runs: look after one replica of a deployment until nothing is desired of it any more."""

import contextlib
import logging
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from hearth_jobs import keys, owners
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.deployments import DeploymentStore, lane_for
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect as connect_s3
from hearth_telemetry import traces
from redis import Redis
from redis.exceptions import RedisError
from rq import get_current_job

from hearth_inference.config import InferenceSettings
from hearth_inference.engines import driver_for
from hearth_inference.holdings import Holdings
from hearth_inference.keeper import Keeper
from hearth_inference.node import Node
from hearth_inference.turns import Turn
from hearth_inference.weights import stored

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 0.5


def run(deployment_name: str, passed_by: Sequence[str] = (), failed_on: Sequence[str] = ()) -> None:
    """Serve a replica of this deployment that nobody holds, until it is not desired, or this worker is told to stop.

    A worker without the model leaves it to one that has it, and one that cannot get the model to any other (`turns`).
    """
    settings = InferenceSettings()
    redis = connect(RedisSettings())
    jobs, nodes, replicas = JobStore(redis), NodeRegistry(redis), ReplicaStore(redis)
    home, deployments = HomeSettings(), DeploymentStore(redis, jobs)
    stopping = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    record, node_id = deployments.get(deployment_name), str(owners.this_process())
    desired, item = record.desired if record else None, get_current_job()
    worker = item.worker_name if item else None
    turn = Turn(redis, lane_for(settings.engine), deployment_name, worker or node_id, passed_by, failed_on)
    if desired is not None and not _has(home, redis, desired.model_id) and turn.passes_on(desired.model_id):
        return
    replica = replicas.claim(deployment_name, record.desired_replicas, node_id) if record and desired else None
    if replica is None:
        log.info("deployment %s has nothing left to be served", deployment_name)
        return
    with Keeper(jobs, nodes, replicas, replica) as keeper:
        holdings = Holdings(
            name=deployment_name,
            home=home,
            deployments=deployments,
            jobs=jobs,
            keeper=keeper,
            node_id=node_id,
            others=lambda: [
                node for node in nodes.live() if node.deployment == deployment_name and node.node_id != node_id
            ],
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
            may_leave=turn.may_leave,
        )
        _loop(node, redis, stopping)
    if node.left:
        with contextlib.suppress(RedisError):  # management sees that nobody holds the replica
            turn.leave()
    traces.flush()


def _has(home: HomeSettings, redis: Redis, model_id: str) -> bool:
    """Whether this worker need not leave the model to others; what is wrong with it is said once it has a replica."""
    try:
        return stored(home, redis, model_id) is not None
    except (OSError, ValueError):  # its record cannot be read
        return True


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
