"""Looks at processes, Redis and answers all the time while faults are inflicted, and notes every broken promise."""

import contextlib
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from hearth_contracts.jobs import Job
from redis.exceptions import RedisError

from tests.chaos.processes import alive
from tests.chaos.world import World

_WORK = re.compile(r"hearth_trainer (\S+)/run\.json|hearth_management\.fetch (?:download|import) (\S+)")
CLIENTS = 4


@dataclass
class Findings:
    """What was seen; every list is to stay empty."""

    doubled: list[str] = field(default_factory=list)
    wrong_statuses: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)  # requests under load, by what was being done
    refused: Counter[str] = field(default_factory=Counter)  # those that were not answered


class Watcher:
    """Threads that look at processes, records and answers, and some that send requests where there is to be load."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.findings = Findings()
        self.label = ""  # what is being done, for requests that fail meanwhile
        self.load = threading.Event()
        self._over = threading.Event()
        self._last: dict[str, Job] = {}
        self._lock = threading.Lock()
        steps = [
            (self._processes, 0.25),
            (self._records, 0.25),
            (self._ready, 1.0),
            *CLIENTS * [(self._requests, 0.25)],
        ]
        self._threads = [threading.Thread(target=self._repeat, args=step, daemon=True) for step in steps]

    def __enter__(self) -> "Watcher":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, step: Callable[[], None], seconds: float) -> None:
        while not self._over.wait(seconds):
            with contextlib.suppress(RedisError, httpx.HTTPError):
                step()

    def _processes(self) -> None:
        """One piece of work has one process. Guards name their command too, and a fork shows its parent's line."""
        at_work: dict[str, list[int]] = defaultdict(list)
        for pid, line in alive(self.world).items():
            match = _WORK.search(line)
            if match and "guard.py" not in line:
                at_work[match[1] or match[2]].append(pid)
        for work, pids in at_work.items():
            if len(pids) > 1:
                self.findings.doubled.append(f"doubled: {work}: processes {pids} ({self.label})")

    def _records(self) -> None:
        for job in self.world.jobs.many(list(self.world.acknowledged)):
            before = self._last.get(job.id)
            self._last[job.id] = job
            if before is None:
                continue
            if before.status.is_over and job != before:
                self.findings.wrong_statuses.append(f"wrong status: {before} became {job}")
            if job.attempt < before.attempt or (job.attempt == before.attempt and job.progress < before.progress):
                self.findings.wrong_statuses.append(f"wrong status: progress went back: {before} became {job}")

    def _requests(self) -> None:
        if self.load.is_set():
            label = self.label
            status = self.world.ask()
            with self._lock:
                if status == 200:
                    self.findings.answered[label] += 1
                else:
                    self.findings.refused[f"{label}: {status}"] += 1

    def _ready(self) -> None:
        """READY before and after, on the same version, and yet no answer in between: the status lied."""
        before = self.world.deploy_state()
        if before is None or before["state"] != "READY":
            return
        status = self.world.ask()
        after = self.world.deploy_state()
        same = after is not None and after["state"] == "READY" and after["job"]["id"] == before["job"]["id"]
        if status != 200 and same and after == before:
            again = self.world.ask()
            if again != 200:
                self.findings.wrong_statuses.append(f"wrong status: READY, but {status} and {again} ({self.label})")
