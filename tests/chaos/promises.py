"""What must hold once a fault is over, by processes, Redis, S3 and the answers. Each check gives what is wrong."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from hearth_contracts.jobs import JobStatus
from hearth_dataset.catalogue import Catalogue
from hearth_jobs import owners
from hearth_storage.adapters import AdapterCorrupt, AdapterMissing, fetch_adapter, list_manifests
from hearth_storage.model_store import list_models, snapshot_path

from tests.chaos.processes import alive, orphans
from tests.chaos.world import World

SETTLE_SECONDS = 15.0


def answers(world: World) -> bool:
    """Whether the public address tells of what lies in Redis and of what lies in S3."""
    with contextlib.suppress(httpx.HTTPError):
        return all(world.http.get(f"/api/v1/{path}/").status_code == 200 for path in ("jobs", "models", "datasets"))
    return False


def no_job_is_lost(world: World) -> Iterator[str]:
    """Every id that was given out is in Redis and is told by the platform."""
    known = {job.id for job in world.jobs.many(world.acknowledged)}
    for job_id in world.acknowledged:
        if job_id not in known:
            yield f"lost: job {job_id}"


def running_means_alive(world: World) -> Iterator[str]:
    """RUNNING has a living owner, or waits for its next attempt and says so."""
    for held in world.jobs.running():
        owner = owners.parse(held.owner)
        if owner is not None and owners.lives(owner) is False:
            yield f"wrong status: job {held.job.id} ({held.job.kind}) is RUNNING, its owner {held.owner} is dead"
        if owner is None and not held.job.stage.startswith("waiting"):
            yield f"wrong status: job {held.job.id} is held by nobody and says {held.job.stage!r}"


def over_means_gone(world: World) -> Iterator[str]:
    """No process works for a job that is over."""
    lines = alive(world)
    for job in world.jobs.many(world.acknowledged):
        if job.status.is_over and job.status is not JobStatus.FINISHED:
            subject = world.jobs.subject(job.id)
            for pid, line in lines.items():
                if f"/runs/{subject}/" in line:
                    yield f"orphan: process {pid} works for job {job.id}, which is {job.status}"


def no_orphans(world: World) -> Iterator[str]:
    """Every process has the supervisor above it."""
    for pid, line in orphans(world).items():
        yield f"orphan: {pid} {line}"


def what_lists_is_whole(world: World) -> Iterator[str]:
    """Each adapter in S3 is what its manifest says, each model has its weights, each dataset its rows."""
    with tempfile.TemporaryDirectory() as scratch:
        for manifest in list_manifests(world.s3):
            try:
                fetch_adapter(world.s3, manifest.adapter_id, Path(scratch))
            except (AdapterCorrupt, AdapterMissing) as fault:
                yield f"not whole: {fault}"
    for model in list_models(world.home / "models"):
        for path in snapshot_path(world.home / "models", model).glob("*.safetensors"):
            body = path.read_bytes()
            length = int.from_bytes(body[:8], "little")
            header = json.loads(body[8 : 8 + length])
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
            if path.stat().st_size != 8 + length + end:
                yield f"not whole: {path}"
    for entry in world.call("GET", "datasets/"):
        rows = world.http.get(f"/api/v1/datasets/{entry['id']}/")
        if rows.status_code != 200 or len(rows.content.splitlines()) != entry["rows"]:
            yield f"not whole: dataset {entry['id']}"


def lists_tell_what_s3_holds(world: World) -> Iterator[str]:
    """A process that has listed all along shows what one that begins now reads from the log in S3."""
    listed = {entry["id"] for entry in world.call("GET", "datasets/")}
    for each in listed ^ {dataset.id for dataset in Catalogue(world.s3).usable()}:
        yield f"lists differ: dataset {each}"
    listed = {entry["model_id"] for entry in world.call("GET", "models/") if entry["adapter"]}
    for each in listed ^ {manifest.adapter_id for manifest in list_manifests(world.s3)}:
        yield f"lists differ: adapter {each}"


AFTER_EACH: tuple[Callable[[World], Iterator[str]], ...] = (
    no_job_is_lost, running_means_alive, over_means_gone, no_orphans,
)  # fmt: skip
AT_THE_END = (*AFTER_EACH, what_lists_is_whole, lists_tell_what_s3_holds)
