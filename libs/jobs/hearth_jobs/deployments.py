"""Deployments in Redis: every change of what is recorded of one."""

from collections.abc import Callable

from hearth_contracts.deploy import DeploymentSpec, Engine, Task, usual_task
from hearth_contracts.engine import EngineSettings
from hearth_contracts.jobs import Job, JobKind
from hearth_contracts.models import StoredModel
from redis import Redis
from redis.client import Pipeline

from hearth_jobs import keys
from hearth_jobs.deployment_record import Deployment, put_settings, read_record
from hearth_jobs.idempotency import Recorder, no_record
from hearth_jobs.models import put_model
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.queues import INFERENCE_EMBEDDING, INFERENCE_LLM, Lane, enqueue
from hearth_jobs.replies import text
from hearth_jobs.store import JobStore

LLM_DEPLOYMENT = "default"
EMBEDDING_DEPLOYMENT = "embedding"
RERANK_DEPLOYMENT = "rerank"


class Superseded(Exception):
    """Another version is desired by now; nothing was changed."""


def lane_for(engine: Engine) -> Lane:
    """The queue whose workers own engines of this kind."""
    return INFERENCE_LLM if engine is Engine.VLLM else INFERENCE_EMBEDDING


def deploy_job_name(model_id: str, adapter_ids: tuple[str, ...]) -> str:
    """`DEPLOY_<model>_adapters_<a>_<b>`, as the reference writes it."""
    return "_".join(["DEPLOY", model_id, *(["adapters", *adapter_ids] if adapter_ids else [])])


class DeploymentStore:
    """Every change is one transaction; changes by a node name the generation they are about."""

    def __init__(self, redis: Redis, jobs: JobStore) -> None:
        self.redis = redis
        self.jobs = jobs

    def get(self, name: str) -> Deployment | None:
        """The record, or None when nothing was ever deployed under this name."""
        return read_record(name, self.redis.hgetall(keys.deployment(name)))

    def all(self) -> list[Deployment]:
        """All records, by name."""
        names = sorted(text(name) for name in self.redis.smembers(keys.DEPLOYMENTS))
        return [record for record in map(self.get, names) if record is not None]

    def desire(
        self,
        name: str,
        *,
        engine: Engine,
        model_id: str,
        adapter_ids: tuple[str, ...],
        served_name: str,
        task: Task | None = None,
        settings: EngineSettings | None = None,
        replicas: int | None = None,
        max_replicas: int | None = None,
        idle_after: int | None = None,
        instead_of: DeploymentSpec | None = None,
        model: StoredModel | None = None,
        record: Recorder = no_record,
    ) -> tuple[DeploymentSpec, Job]:
        """Ask for a new version: its spec, its job and its queue item are recorded together.

        What the version before it was waiting for, if it never began to serve, is interrupted. `replicas`,
        `max_replicas` and `idle_after` stay as they are where they are not given. With `instead_of` only that version
        is replaced; raises Superseded when it is no longer the one desired. `model` is what nodes that lack it are to
        fetch.
        """
        self.asked(name)
        replaced: list[DeploymentSpec] = []
        made: list[tuple[DeploymentSpec, Job]] = []

        def change(pipe: Pipeline) -> None:
            before = read_record(name, pipe.hgetall(keys.deployment(name)))
            if instead_of is not None and (before is None or before.desired != instead_of):
                raise Superseded(name)
            pipe.multi()
            job = self.jobs.create(pipe, kind=JobKind.DEPLOY, name=deploy_job_name(model_id, adapter_ids), subject=name)
            spec = DeploymentSpec(
                name=name,
                engine=engine,
                task=task or usual_task({"engine": engine}),
                model_id=model_id,
                adapter_ids=adapter_ids,
                served_name=served_name,
                settings=settings or EngineSettings(),
                job_id=job.id,
                generation=before.latest.generation + 1 if before and before.latest else 1,
            )
            body = spec.model_dump_json()
            pipe.hset(keys.deployment(name), mapping={"desired": body, "latest": body, "failure": ""})
            pipe.hdel(keys.deployment(name), "asleep")
            if before is None or before.latest is None or not _alike(before.latest, spec):
                pipe.hdel(keys.deployment(name), "by_load")  # what filled an engine of another model says nothing
            put_settings(pipe, name, replicas, max_replicas, idle_after)
            pipe.sadd(keys.DEPLOYMENTS, name)
            if model is not None:
                put_model(pipe, model)
            enqueue(self.redis, lane_for(engine), name, pipe=pipe)
            pipe.publish(keys.WAKE, name)
            record(pipe, job)
            replaced[:] = [before.desired] if before and before.desired and before.desired != before.serving else []
            made[:] = [(spec, job)]

        self.redis.transaction(change, keys.deployment(name))
        for spec in replaced:
            self.interrupt(spec.job_id)
        return made[0]

    def interrupt(self, job_id: str) -> Job:
        """Interrupt a DEPLOY job: KILLED at once only if no node runs anything of it. Raises JobMissing."""
        return self.jobs.interrupt(job_id, runs=any(job_id in node.runs for node in NodeRegistry(self.redis).live()))

    def scale(
        self,
        name: str,
        replicas: int | None = None,
        idle_after: int | None = None,
        max_replicas: int | None = None,
    ) -> bool:
        """Have so many engines serve from now on, more with the load or not, always or not.

        False when nothing is desired under this name."""
        self.asked(name)  # what may sleep from now on is not asleep at once
        done: list[bool] = []

        def change(pipe: Pipeline) -> None:
            record = read_record(name, pipe.hgetall(keys.deployment(name)))
            done[:] = [record is not None and record.desired is not None]
            pipe.multi()
            if done[0]:
                put_settings(pipe, name, replicas, max_replicas, idle_after)
                pipe.publish(keys.WAKE, name)

        self.redis.transaction(change, keys.deployment(name))
        if idle_after == 0:
            self.wake(name)
        return done[0]

    # -- rest ------------------------------------------------------------------------------------------------

    def asked(self, *names: str) -> None:
        """Note that somebody has just asked for these."""
        moment = self.clock()
        self.redis.hset(keys.ASKED, mapping=dict.fromkeys(names, moment))

    def unasked_for(self, name: str) -> float:
        """Seconds since somebody last asked, or it began to serve; 0 when neither is known."""
        last = self.redis.hget(keys.ASKED, name)
        return self.clock() - float(last) if last is not None else 0.0

    def clock(self) -> float:
        """Redis's: gateways and management may be on other machines, with clocks of their own."""
        seconds, micros = self.redis.time()
        return float(seconds + micros / 1e6)

    def sleep(self, spec: DeploymentSpec) -> bool:
        """Let no engine run until somebody asks; then as few as there may be.

        False when another version is desired by now.
        """

        def put(pipe: Pipeline) -> None:
            pipe.hset(keys.deployment(spec.name), "asleep", 1)
            pipe.hdel(keys.deployment(spec.name), "by_load")

        return self._if_desired(spec, put)

    def wake(self, name: str) -> bool:
        """Somebody asks: engines are to run again. False when they were not asleep."""
        done: list[bool] = []

        def change(pipe: Pipeline) -> None:
            record = read_record(name, pipe.hgetall(keys.deployment(name)))
            wanted = record.desired if record is not None and record.is_asleep else None
            done[:] = [wanted is not None]
            pipe.multi()
            if wanted is not None:
                pipe.hdel(keys.deployment(name), "asleep")
                enqueue(self.redis, lane_for(wanted.engine), name, pipe=pipe)
                pipe.publish(keys.WAKE, name)

        self.redis.transaction(change, keys.deployment(name))
        return done[0]

    # -- the end ---------------------------------------------------------------------------------------------

    def undeploy(self, name: str) -> DeploymentSpec | None:
        """Ask for nothing to be served. Returns what was desired until now."""
        found: list[Deployment | None] = []

        def change(pipe: Pipeline) -> None:
            record = read_record(name, pipe.hgetall(keys.deployment(name)))
            pipe.multi()
            pipe.hdel(keys.deployment(name), "desired", "serving", "asleep", "by_load")
            pipe.publish(keys.WAKE, name)
            found[:] = [record]

        self.redis.transaction(change, keys.deployment(name))
        record = found[0]
        if record is None:
            return None
        for spec in {record.desired, record.serving} - {None}:
            assert spec is not None
            self.interrupt(spec.job_id)
        return record.desired

    def settle(self, spec: DeploymentSpec) -> bool:
        """Record that this version answers requests. False when another version is desired by now."""

        def put(pipe: Pipeline) -> None:
            pipe.hset(keys.deployment(spec.name), mapping={"serving": spec.model_dump_json(), "failure": ""})

        return self._if_desired(spec, put)

    def give_up(self, spec: DeploymentSpec, reason: str) -> bool:
        """Stop wanting this version: go back to the one that serves, or, if this is that one, to nothing.

        False when another version is desired by now.
        """

        def put(pipe: Pipeline) -> None:
            record = read_record(spec.name, self.redis.hgetall(keys.deployment(spec.name)))
            pipe.hset(keys.deployment(spec.name), "failure", reason)
            if record and record.serving and record.serving.generation != spec.generation:
                pipe.hset(keys.deployment(spec.name), "desired", record.serving.model_dump_json())
            else:
                pipe.hdel(keys.deployment(spec.name), "desired", "serving", "by_load")

        return self._if_desired(spec, put)

    def _if_desired(self, spec: DeploymentSpec, put: Callable[[Pipeline], None]) -> bool:
        done: list[bool] = []

        def change(pipe: Pipeline) -> None:
            record = read_record(spec.name, pipe.hgetall(keys.deployment(spec.name)))
            done[:] = [record is not None and record.desired == spec]
            pipe.multi()
            if done[0]:
                put(pipe)
                pipe.publish(keys.WAKE, spec.name)

        self.redis.transaction(change, keys.deployment(spec.name))
        return done[0]


def _alike(one: DeploymentSpec, other: DeploymentSpec) -> bool:
    """Whether an engine takes as much load with either."""
    return (one.model_id, one.settings) == (other.model_id, other.settings)
