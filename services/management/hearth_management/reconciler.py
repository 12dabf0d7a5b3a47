"""Make what is match what is recorded: the one loop that looks at everything, once a second.

It finds attempts whose worker died, jobs that wait with nobody told, deployments that nobody serves. Each decision
is recomputed from Redis and carried out by a compare-and-set, so that running it twice, or in two processes, does
no harm.
"""

import logging
import threading
import time

from hearth_contracts.deploy import Engine
from hearth_contracts.errors import HearthError
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.models import ImportRequest
from hearth_jobs import keys
from hearth_jobs.config import LEASE_SECONDS, MAX_ATTEMPTS
from hearth_jobs.deployments import EMBEDDING_DEPLOYMENT, Deployment, lane_for
from hearth_jobs.queues import DOWNLOADS, INFERENCE_EMBEDDING, INFERENCE_LLM, TRAINING, Lane, enqueue, waiting
from hearth_storage.model_store import find_model
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hearth_management.models import add_from_folder
from hearth_management.services import Services

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
LANES: dict[JobKind, Lane] = {
    JobKind.DOWNLOAD: DOWNLOADS,
    JobKind.IMPORT: DOWNLOADS,
    JobKind.FINETUNE: TRAINING,
}
WAITS = "waiting for another attempt: its worker died"


def verdict(job: Job, deployments: list[Deployment]) -> tuple[JobStatus | None, str] | None:
    """What becomes of a running job whose lease has ended: (terminal status or None to wait, words); None: leave it."""
    if job.kind is JobKind.DEPLOY:
        specs = [spec for record in deployments for spec in (record.desired, record.serving) if spec is not None]
        if any(spec.job_id == job.id for spec in specs):
            return None  # an inference node takes it up again with the deployment
        return JobStatus.FINISHED, ""
    if job.attempt < MAX_ATTEMPTS:
        return None, WAITS
    words = f"its worker died {job.attempt} times, most likely for want of memory; the job's log has its last words"
    return JobStatus.FAILED, words


def reconcile_jobs(services: Services, deployments: list[Deployment]) -> None:
    """End or re-queue what lost its worker; queue what waits unheard of."""
    queued = {lane.queue: waiting(services.redis, lane) for lane in (DOWNLOADS, TRAINING)}
    for found in services.jobs.expired():
        decision = verdict(found.job, deployments)
        if decision is None:
            continue
        released = not found.owner and found.job.kind is not JobKind.DEPLOY
        outcome = JobStatus.RUNNING if released else services.jobs.expire(found.job, *decision)
        if outcome is JobStatus.RUNNING:
            _queue(services, found.job, queued)
        elif outcome is not None:
            log.warning("job %s is %s: %s", found.job.id, outcome, decision[1])
    for job in services.jobs.active():
        if job.status is JobStatus.CREATED and job.kind in LANES:
            _queue(services, job, queued)


def _queue(services: Services, job: Job, queued: dict[str, set[str]]) -> None:
    lane = LANES[job.kind]
    if job.id not in queued[lane.queue]:
        log.warning("job %s waits with no queue item; queued", job.id)
        enqueue(services.redis, lane, job.id)


def reconcile_deployments(services: Services, deployments: list[Deployment]) -> None:
    """Queue an item for each deployment that nobody serves."""
    queued = {lane.queue: waiting(services.redis, lane) for lane in (INFERENCE_LLM, INFERENCE_EMBEDDING)}
    served = {node.deployment for node in services.nodes.live()}
    for record in deployments:
        if record.desired is not None and record.name not in served:
            lane = lane_for(record.desired.engine)
            if record.name not in queued[lane.queue]:
                log.info("deployment %s is served by nobody; queued", record.name)
                enqueue(services.redis, lane, record.name)


def reconcile_embedding(services: Services) -> str:
    """Import and deploy, once, the embedding model that the settings name. Returns what stands in the way, or ''."""
    settings = services.settings
    model_id = settings.embedding_model
    asked = services.redis.get(keys.EMBEDDING_ASKED)
    if not model_id or asked == model_id.encode():
        return ""
    if find_model(services.home.models, model_id) is None:
        jobs = [job for job in services.jobs.all() if job.name == f"IMPORT_{model_id}"]
        has_folder = (services.home.imports / settings.embedding_import / "config.json").is_file()
        # One that failed would fail again, and one that a user interrupted is not wanted; by hand it can be begun anew.
        if has_folder and all(job.status is JobStatus.FINISHED for job in jobs):
            try:
                add_from_folder(services, ImportRequest(model_id=model_id, folder=settings.embedding_import))
            except HearthError as refusal:
                return f"the embedding model is not imported: {refusal.detail}"
        return ""
    services.deployments.desire(
        EMBEDDING_DEPLOYMENT,
        engine=Engine.INFINITY,
        model_id=model_id,
        adapter_ids=(),
        served_name=settings.embedding_name,
    )
    services.redis.set(keys.EMBEDDING_ASKED, model_id)
    return ""


class Reconciler:
    """The loop, in a thread of its own."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._over = threading.Event()
        self._quiet_until = 0.0
        self._obstacle = ""
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
                # Leases could not be renewed while Redis was away: let the living renew before judging anybody dead.
                self._quiet_until = time.monotonic() + LEASE_SECONDS
                log.warning("Redis is away, nothing reconciled: %s", error)
            except Exception:
                log.exception("the reconciler stumbled; it goes on")
            self._over.wait(PERIOD_SECONDS)

    def once(self) -> None:
        """One round."""
        deployments = self.services.deployments.all()
        if time.monotonic() >= self._quiet_until:
            reconcile_jobs(self.services, deployments)
        reconcile_deployments(self.services, deployments)
        obstacle = reconcile_embedding(self.services)
        if obstacle and obstacle != self._obstacle:
            log.warning("%s", obstacle)  # once, not every second
        self._obstacle = obstacle
