"""The job store: every change of a job's state is one Lua script, so it happens whole or not at all."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from hearth_contracts.base import now
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.names import new_id
from hearth_telemetry import traces
from redis import Redis
from redis.client import Pipeline
from structlog.contextvars import get_contextvars

from hearth_jobs import keys
from hearth_jobs.config import LEASE_SECONDS
from hearth_jobs.replies import fields_of, text


class JobMissing(Exception):
    """There is no job with this id."""


class ClaimRefused(Exception):
    """The job is over, or another worker holds it."""


class StaleAttempt(Exception):
    """A write came from an attempt that is no longer the current one; it changed nothing."""


@dataclass(frozen=True)
class Held:
    """A job that is not over, and what is private of it."""

    job: Job
    subject: str  # what the job is about: a fine-tune's id, a deployment's name, a model's id
    owner: str  # who holds it (see `owners`); '' when it waits for its first attempt, or for another
    deaths: int  # how many of its attempts ended with their worker's death
    lapsed: bool  # its lease has ended


@dataclass(frozen=True)
class Origin:
    """What a job's logs and traces say of where it comes from; '' where it is not known."""

    kind: str
    request_id: str  # of the HTTP request that made it
    traceparent: str  # the span of that request


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


class JobStore:
    """Job records in Redis. Safe to share between threads.

    Every method raises redis.ConnectionError or redis.TimeoutError when Redis is away.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        script = files("hearth_jobs") / "lua"
        self._claim = redis.register_script((script / "claim.lua").read_text())
        self._write = redis.register_script((script / "write.lua").read_text())
        self._interrupt = redis.register_script((script / "interrupt.lua").read_text())
        self._expire = redis.register_script((script / "expire.lua").read_text())

    # -- reading ---------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """The job's record. Raises JobMissing."""
        return self._job(job_id, fields_of(self.redis.hgetall(keys.job(job_id))))

    def subject(self, job_id: str) -> str:
        """What the job is about. Raises JobMissing."""
        value = self.redis.hget(keys.job(job_id), "subject")
        if value is None:
            raise JobMissing(job_id)
        return text(value)

    def all(self) -> list[Job]:
        """All jobs, newest first."""
        ids = [text(i) for i in self.redis.zrevrange(keys.JOBS, 0, -1)]
        return self.many(ids)

    def active(self) -> list[Job]:
        """All jobs not yet over, in no order."""
        return self.many([text(i) for i in self.redis.zrange(keys.ACTIVE_JOBS, 0, -1)])

    def since(self, created: float) -> dict[str, float]:
        """The ids of the jobs created at that moment or later, in seconds since 1970, each with when it was."""
        found: Any = self.redis.zrangebyscore(keys.JOBS, created, "+inf", withscores=True)
        return {text(job_id): float(moment) for job_id, moment in found}

    def waiting(self, ids: Collection[str]) -> set[str]:
        """Those of them that nobody has begun yet, nor ended."""
        pipe = self.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hget(keys.job(job_id), "status")
        statuses = pipe.execute()
        return {job_id for job_id, status in zip(ids, statuses, strict=True) if text(status or "") == JobStatus.CREATED}

    def unheld(self) -> set[str]:
        """The ids of all that wait for a worker: their lease, by which the index is ordered, is nobody's."""
        return {text(job_id) for job_id in self.redis.zrangebyscore(keys.ACTIVE_JOBS, 0, 0)}

    def open(self, apart_from: Collection[str] = ()) -> list[Held]:
        """The jobs not yet over, those whose lease ended longest ago first; `apart_from` are not read."""
        seconds, micros = self.redis.time()
        clock = seconds * 1000 + micros // 1000
        ids = [text(i) for i in self.redis.zrange(keys.ACTIVE_JOBS, 0, -1)]
        found = []
        for job_id, record in self._records(job_id for job_id in ids if job_id not in apart_from):
            job = self._job(job_id, record)
            if not job.status.is_over:  # else it has ended just now
                lapsed = int(record["lease_until_ms"]) <= clock
                owner, deaths = record.get("owner", ""), int(record.get("deaths", "0"))
                found.append(Held(job, record["subject"], owner, deaths, lapsed))
        return found

    def running(self) -> list[Held]:
        """The running jobs, those whose lease ended longest ago first."""
        return [held for held in self.open() if held.job.status is JobStatus.RUNNING]

    def expired(self) -> list[Held]:
        """Those of them whose lease has ended, or that were given back and wait for another attempt."""
        return [held for held in self.running() if held.lapsed]

    def many(self, ids: Iterable[str]) -> list[Job]:
        """The jobs with these ids, in this order; an id without a job is left out."""
        return [self._job(job_id, record) for job_id, record in self._records(ids)]

    def _records(self, ids: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
        """Each id with its record, in one round trip; an id without a record is left out."""
        ids = list(ids)
        pipe = self.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hgetall(keys.job(job_id))
        records = [fields_of(reply) for reply in pipe.execute()]
        return [(job_id, record) for job_id, record in zip(ids, records, strict=True) if record]

    @staticmethod
    def _job(job_id: str, fields: dict[str, str]) -> Job:
        if not fields:
            raise JobMissing(job_id)
        return Job.model_validate({name: fields[name] for name in Job.model_fields if name in fields})

    # -- creating and interrupting ---------------------------------------------------------------------------

    def create(self, pipe: Pipeline, *, kind: JobKind, name: str, subject: str) -> Job:
        """Record a new job as part of the transaction `pipe`; it exists once the pipe is executed."""
        moment = now()
        job = Job(id=new_id(), name=name, kind=kind, status=JobStatus.CREATED, created_at=moment, started_at=moment)
        record: dict[Any, Any] = {
            "id": job.id,
            "name": name,
            "kind": kind.value,
            "status": job.status.value,
            "created_at": _stamp(moment),
            "started_at": _stamp(moment),
            "progress": "0",
            "stage": job.stage,
            "attempt": "0",
            "lease_until_ms": "0",
            "subject": subject,
            "request_id": get_contextvars().get("request_id", ""),
            "traceparent": traces.carrier().get("traceparent", ""),
        }
        pipe.hset(keys.job(job.id), mapping=record)
        pipe.zadd(keys.JOBS, {job.id: moment.timestamp()})
        pipe.zadd(keys.ACTIVE_JOBS, {job.id: 0})
        return job

    def origin(self, job_id: str) -> Origin:
        """Where the job comes from; nothing of it is known where there is no job."""
        found = self.redis.hmget(keys.job(job_id), ["kind", "request_id", "traceparent"])
        return Origin(*(text(value or "") for value in found))

    def interrupt(self, job_id: str, *, runs: bool = False) -> Job:
        """Ask for the job to end; idempotent. Raises JobMissing.

        A job nobody holds is KILLED when this returns, but for one of which something `runs`: its judge ends it when
        nothing does. One that is held stays RUNNING until its holder has ended every process of it. One that is over
        is returned as it is.
        """
        if self._interrupt(keys=self._keys(job_id), args=[job_id, _stamp(now()), "1" if runs else ""]) is None:
            raise JobMissing(job_id)
        self.redis.publish(keys.WAKE, job_id)
        return self.get(job_id)

    # -- holding ---------------------------------------------------------------------------------------------

    def claim(self, job_id: str, owner: str, lease: float = LEASE_SECONDS, *, runs: bool = False) -> int:
        """Begin an attempt and return its number, the fencing token. Raises ClaimRefused, JobMissing.

        What `runs` under this owner already is claimed even when it was interrupted: to be ended.
        """
        args: list[str | int] = [job_id, owner, int(lease * 1000), _stamp(now()), "1" if runs else ""]
        reply = self._claim(keys=self._keys(job_id), args=args)
        outcome = text(reply[0])
        if outcome == "claimed":
            return int(reply[1])
        if outcome == "missing":
            raise JobMissing(job_id)
        raise ClaimRefused(f"job {job_id} is {outcome}: {text(reply[1])}")

    def renew(self, job_id: str, attempt: int, lease: float = LEASE_SECONDS) -> bool:
        """Hold on to the lease. Returns whether an interrupt was asked for. Raises StaleAttempt."""
        return self._put(job_id, attempt, lease=str(int(lease * 1000)))

    def report(
        self,
        job_id: str,
        attempt: int,
        *,
        progress: float | None = None,
        stage: str | None = None,
        eta_seconds: float | None = None,
    ) -> None:
        """Say how far the work is: share done 0 to 1, words, seconds left. Raises StaleAttempt."""
        fields: dict[str, str] = {"eta_seconds": "" if eta_seconds is None else f"{eta_seconds:.1f}"}
        if progress is not None:
            fields["progress"] = f"{min(max(progress, 0.0), 1.0):.4f}"
        if stage is not None:
            fields["stage"] = stage
        self._put(job_id, attempt, fields=fields)

    def finish(self, job_id: str, attempt: int, status: JobStatus, error: str | None = None) -> None:
        """End the job for good. Raises StaleAttempt when it is over already or another attempt has begun."""
        stage = {JobStatus.FINISHED: "finished", JobStatus.FAILED: "failed", JobStatus.KILLED: "interrupted"}[status]
        fields = {"stage": stage}
        if status is JobStatus.FINISHED:
            fields["progress"] = "1"
        if error:
            fields["error"] = error
        self._put(job_id, attempt, status=status.value, fields=fields)
        self.redis.publish(keys.WAKE, job_id)

    def release(self, job_id: str, attempt: int, stage: str) -> None:
        """Give the lease back with the work undone, so that another worker may begin at once."""
        self._put(job_id, attempt, lease="0", fields={"stage": stage})

    def steady(self, job_id: str, attempt: int) -> None:
        """The attempt has done well for long: earlier deaths of its workers count no more. Raises StaleAttempt."""
        self._put(job_id, attempt, fields={"deaths": "0"})

    def expire(self, held: Held, status: JobStatus | None, words: str, *, proven: bool = False) -> JobStatus | None:
        """End an attempt whose worker is dead: end the job with `words`, or (None) let it wait for another attempt.

        It is dead when its lease has ended, or when it is `proven` that its owner is gone.
        Returns the terminal status, or RUNNING when it waits; None when it is held after all, or was ended by another.
        """
        job = held.job
        verdict = status.value if status else ""
        reply = self._expire(
            keys=self._keys(job.id),
            args=[job.id, job.attempt, verdict, _stamp(now()), words, held.owner, "1" if proven else ""],
        )
        if reply is None:
            return None
        return JobStatus.RUNNING if text(reply) == "RETRY" else JobStatus(text(reply))

    def _put(
        self,
        job_id: str,
        attempt: int,
        *,
        lease: str = "",
        status: str = "",
        fields: dict[str, str] | None = None,
    ) -> bool:
        pairs = [item for pair in (fields or {}).items() for item in pair]
        reply = self._write(keys=self._keys(job_id), args=[job_id, attempt, lease, status, _stamp(now()), *pairs])
        if text(reply[0]) == "stale":
            status, current = text(reply[1]), text(reply[2])
            raise StaleAttempt(f"job {job_id} is {status} at attempt {current}; attempt {attempt} is over")
        return text(reply[1]) == "1"

    @staticmethod
    def _keys(job_id: str) -> list[str]:
        return [keys.job(job_id), keys.ACTIVE_JOBS]
