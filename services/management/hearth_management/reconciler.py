"""Make what is match what is recorded: the one loop that looks at everything, once a second.

It finds attempts whose worker died, jobs that wait with nobody told, replicas that nobody serves. Each decision
is recomputed from Redis and carried out by a compare-and-set, so that running it twice, or in two processes, does
no harm.
"""

import logging
import threading
import time
from dataclasses import dataclass

from hearth_contracts.deploy import DeploymentState, NodeReport
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_jobs import owners
from hearth_jobs.config import LEASE_SECONDS
from hearth_jobs.deployment_record import Deployment
from hearth_jobs.deployments import lane_for
from hearth_jobs.finetunes import lane_for as lane_for_run
from hearth_jobs.queues import DOWNLOADS, INFERENCE_EMBEDDING, INFERENCE_LLM, TRAINING, Lane, counted, enqueue, waiting
from hearth_jobs.replicas import HeldReplica
from hearth_jobs.store import Held
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hearth_management.at_start import deploy_at_start
from hearth_management.beside import deploy_trained
from hearth_management.lanes import OF_JOBS
from hearth_management.models import tell_nodes
from hearth_management.scaling import scale_by_load
from hearth_management.services import Services

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
LANE_OF_KIND: dict[JobKind, Lane] = {
    JobKind.DOWNLOAD: DOWNLOADS,
    JobKind.IMPORT: DOWNLOADS,
    JobKind.FINETUNE: TRAINING,
    JobKind.MERGE: TRAINING,
}
WAITS = "waiting for another attempt: its worker died"
WAITS_FOR_NODE = "waiting for an inference node: the one that served it died"


@dataclass(frozen=True)
class Seen:
    """What the judge goes by, read once a round and after the jobs: each of them is older than it."""

    deployments: list[Deployment]
    nodes: list[NodeReport]

    @property
    def wanted(self) -> set[str]:
        """The jobs of the versions that are desired or serve."""
        return {spec.job_id for each in self.deployments for spec in (each.desired, each.serving) if spec is not None}

    def runs(self, held: Held) -> bool:
        """Whether another node than its holder runs a version of a deployment."""
        return any(held.job.id in node.runs and node.node_id != held.owner for node in self.nodes)


@dataclass(frozen=True)
class Verdict:
    """What becomes of an attempt whose worker is dead."""

    status: JobStatus | None  # how the job ends; None: it waits for another attempt
    words: str = ""


def verdict(held: Held, seen: Seen, max_attempts: int) -> Verdict:
    """What becomes of a running job whose worker died once more."""
    deaths = held.deaths + 1
    too_often = f"its worker or its process was killed {deaths} times; the job's log has the last words"
    if held.job.kind is JobKind.DEPLOY:
        if held.job.id not in seen.wanted:
            return Verdict(JobStatus.FINISHED)
        given_up = deaths >= max_attempts and not seen.runs(held)  # else one that lives takes it over
        return Verdict(JobStatus.FAILED, too_often) if given_up else Verdict(None, WAITS_FOR_NODE)
    return Verdict(JobStatus.FAILED, too_often) if deaths >= max_attempts else Verdict(None, WAITS)


def is_dead(held: Held | HeldReplica, *, trust_leases: bool) -> bool:
    """Whether the worker that holds a job or a replica, and all that it started, can be judged gone.

    On this machine there is proof, whatever the lease says: a process that was only slow keeps its job. On another the
    lease must do, which is longer than a guard waits for its worker.
    """
    owner = owners.parse(held.owner)
    gone = owners.is_gone(owner) if owner else None
    lapsed = held.lapsed and trust_leases
    if owner and gone is False and lapsed:
        owners.kill_remains(owner)  # its guards had their time
        return owners.lives(owner) is False
    return lapsed if gone is None else gone


def reconcile_jobs(services: Services, *, trust_leases: bool = True) -> None:
    """End or re-queue what lost its worker; queue what waits unheard of. What waits in a queue is not even read."""
    queued = set().union(*(waiting(services.redis, lane) for lane in OF_JOBS))
    well = queued & services.jobs.unheld()
    found = services.jobs.open(apart_from=well)
    seen = Seen(services.deployments.all(), services.nodes.live())
    lost = [held for held in found if _is_lost(held, seen, trust_leases)]
    for held in lost:
        _bury(services, held, seen)
    for held in services.jobs.open(apart_from=well) if lost else found:
        if not held.owner and held.job.kind in LANE_OF_KIND and held.job.id not in queued:
            log.warning("job %s waits with no queue item; queued", held.job.id)
            enqueue(services.redis, _lane(services, held.job), held.job.id)


def _lane(services: Services, job: Job) -> Lane:
    """Where a job waits."""
    finetune = services.finetunes.get(services.jobs.subject(job.id)) if job.kind is JobKind.FINETUNE else None
    return LANE_OF_KIND[job.kind] if finetune is None else lane_for_run(finetune)


def _is_lost(held: Held, seen: Seen, trust_leases: bool) -> bool:
    """Whether a job runs no more: its worker is dead, or it is a deployment's version that nobody wants or holds.

    A version that nobody wants is not over as long as other nodes still stop its engines.
    """
    if held.job.status is not JobStatus.RUNNING:
        return False
    is_left = held.job.kind is JobKind.DEPLOY and held.job.id not in seen.wanted
    if is_left and seen.runs(held):
        return False
    return is_dead(held, trust_leases=trust_leases) if held.owner else is_left


def _bury(services: Services, held: Held, seen: Seen) -> None:
    decision = verdict(held, seen, services.settings.max_attempts)
    outcome = services.jobs.expire(held, decision.status, decision.words, proven=True)
    if outcome is None:
        return  # it ended, or another attempt began, meanwhile
    log.warning("job %s: its worker %s is dead; it is %s now. %s", held.job.id, held.owner, outcome, decision.words)
    if outcome is JobStatus.FAILED:
        for spec in (record.desired for record in seen.deployments if record.desired):
            if spec.job_id == held.job.id:
                services.deployments.give_up(spec, decision.words)


def reconcile_deployments(services: Services, deployments: list[Deployment], *, trust_leases: bool = True) -> None:
    """Free the replicas of dead nodes; queue an item for each that nobody holds."""
    queued = {lane.queue: counted(services.redis, lane) for lane in (INFERENCE_LLM, INFERENCE_EMBEDDING)}
    held: set[tuple[str, int]] = set()
    for replica in services.replicas.held():
        if is_dead(replica, trust_leases=trust_leases) and services.replicas.free(replica, proven=True):
            log.warning("replica %s: its node %s is dead; another may take it", replica.name, replica.owner)
        else:
            held.add((replica.deployment, replica.index))
    for record in deployments:
        if record.desired is None or record.is_asleep:
            continue
        lane = lane_for(record.desired.engine)
        missing = sum((record.name, index) not in held for index in range(record.desired_replicas))
        for _ in range(missing - queued[lane.queue][record.name]):
            log.info("deployment %s: a replica is held by nobody; queued", record.name)
            enqueue(services.redis, lane, record.name)


def let_sleep(services: Services, deployments: list[Deployment]) -> None:
    """Let no engine run for a deployment that nobody asked for as long as its `idle_after` says."""
    idle = [each for each in deployments if each.idle_after and not each.is_asleep]
    ready = (
        {node.deployment for node in services.nodes.live() if node.state is DeploymentState.READY} if idle else set()
    )
    for record in idle:
        spec, quiet = record.desired, services.deployments.unasked_for(record.name)
        if spec is not None and spec == record.serving and record.name in ready and quiet > record.idle_after:
            log.info("deployment %s: no request for %.0f s; it sleeps until the next", record.name, quiet)
            services.deployments.sleep(spec)


class Reconciler:
    """The loop, in a thread of its own.

    For `patience` seconds after Redis was away, or may have been, leases are not trusted: they could not be renewed.
    """

    def __init__(self, services: Services, patience: float = LEASE_SECONDS) -> None:
        self.services = services
        self.patience = patience
        self._over = threading.Event()
        self._trust_after = time.monotonic() + patience
        self._obstacles: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.once()
            except (RedisConnectionError, RedisTimeoutError) as error:
                self._trust_after = time.monotonic() + self.patience
                log.warning("Redis is away, nothing reconciled: %s", error)
            except Exception:
                log.exception("the reconciler stumbled; it goes on")
            self._over.wait(PERIOD_SECONDS)

    def once(self) -> None:
        """One round."""
        trust_leases = time.monotonic() >= self._trust_after
        reconcile_jobs(self.services, trust_leases=trust_leases)
        deployments = self.services.deployments.all()
        reconcile_deployments(self.services, deployments, trust_leases=trust_leases)
        if trust_leases:  # nor could a gateway say that somebody asked, or a node what it has to do
            let_sleep(self.services, deployments)
            scale_by_load(self.services, deployments, self.services.deployments.clock())
        deploy_trained(self.services)
        obstacles = deploy_at_start(self.services)
        try:
            tell_nodes(self.services, deployments)
        except (OSError, ValueError) as error:
            obstacles = {*obstacles, f"nodes are not told what models there are: {error}"}
        for obstacle in obstacles - self._obstacles:
            log.warning("%s", obstacle)  # once, not every second
        self._obstacles = obstacles
