"""Reading jobs by the page. The index `hearth:jobs` is ordered by creation, so a page reads only what it shows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hearth_contracts.jobs import Job, JobKind, JobStatus

from hearth_jobs import keys
from hearth_jobs.replies import text
from hearth_jobs.store import JobStore

CHUNK = 250
"""Jobs read at a time while a filter looks for those that match."""


class CursorUnknown(Exception):
    """No job has the id that a cursor names."""


@dataclass(frozen=True)
class Wanted:
    """Which jobs to list; what is empty or None excludes none."""

    kinds: frozenset[JobKind] = field(default_factory=frozenset)
    statuses: frozenset[JobStatus] = field(default_factory=frozenset)
    since: datetime | None = None  # created then or later

    def has(self, job: Job) -> bool:
        """Whether the job is one of them, leaving `since` aside."""
        return (not self.kinds or job.kind in self.kinds) and (not self.statuses or job.status in self.statuses)


@dataclass(frozen=True)
class Page:
    """Jobs, newest first."""

    jobs: list[Job]
    next: str | None  # the cursor of the page after this one, where there is one


def list_jobs(store: JobStore, wanted: Wanted, limit: int | None = None, cursor: str | None = None) -> Page:
    """Up to `limit` jobs, from after the job that `cursor` names. Raises CursorUnknown.

    A cursor is the id of the last job of a page: jobs that begin meanwhile move nothing from one page to another.
    """
    found: list[Job] = []
    for job in _newest_first(store, cursor, wanted.since, CHUNK if limit is None else min(CHUNK, limit + 1)):
        if wanted.has(job):
            if len(found) == limit:  # there is one more
                return Page(found, found[-1].id)
            found.append(job)
    return Page(found, None)


def _newest_first(store: JobStore, cursor: str | None, since: datetime | None, chunk: int) -> Iterator[Job]:
    """The jobs created before the one that `cursor` names and not before `since`. Raises CursorUnknown."""
    while True:
        first = 0
        if cursor is not None:
            place: Any = store.redis.zrevrank(keys.JOBS, cursor)
            if place is None:
                raise CursorUnknown(cursor)
            first = int(place) + 1
        rows: Any = store.redis.zrevrange(keys.JOBS, first, first + chunk - 1, withscores=True)
        ids = [text(job_id) for job_id, created in rows if since is None or created >= since.timestamp()]
        yield from store.many(ids)
        if len(ids) < chunk:
            return
        cursor = ids[-1]
