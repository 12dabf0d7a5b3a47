"""The control plane with more and more in it: jobs that wait, adapters, datasets. Real Redis, real S3, no engine."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from unittest import mock

from fastapi import FastAPI
from fastapi.testclient import TestClient
from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.jobs import JobKind, JobStatus
from hearth_contracts.names import new_id
from hearth_dataset.app import dataset_app
from hearth_dataset.catalogue import Catalogue
from hearth_dataset.config import DatasetSettings
from hearth_dataset.contents import Use
from hearth_dataset.sweep import sweep
from hearth_jobs.config import RedisSettings
from hearth_jobs.owners import this_process
from hearth_jobs.queues import TRAINING, enqueue, transaction
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services, build_services
from hearth_storage.adapters import Adapters, adapter_prefix
from hearth_storage.bundles import put_manifest
from hearth_storage.config import HomeSettings
from hearth_storage.datasets import metadata_key
from hearth_storage.log import name_at
from hearth_storage.objects import ARTIFACTS, DATASETS, connect, ensure_bucket, write_object
from hearth_storage.register import SNAPSHOT
from minio import Minio
from pydantic import SecretStr

from tests.bench.scale.counting import Cost, cost
from tests.support.servers import s3_server, valkey

WRITERS = 32
SETTLED_SECONDS = 3600.0
"""How long ago what is listed was made: what is younger than 20 minutes is read again by each list."""


@contextmanager
def platform(folder: Path) -> Iterator[Services]:
    """Management's parts over empty servers of their own; nothing is deployed at start."""
    with valkey(folder / "valkey") as redis, s3_server(folder / "s3") as s3:
        port = redis.connection_pool.connection_kwargs["port"]
        settings = ManagementSettings(embedding_model="", fit_check=False)
        url = RedisSettings(redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"))
        client = connect(s3)
        for bucket in (ARTIFACTS, DATASETS):
            ensure_bucket(client, bucket)
        yield build_services(settings, HomeSettings(home=folder / "home"), url, s3)


# -- jobs ----------------------------------------------------------------------------------------------------------


def create(services: Services) -> str:
    """A fine-tune's job, recorded and queued in one transaction, as the API does it."""
    pipe = transaction(services.redis)
    job = services.jobs.create(pipe, kind=JobKind.FINETUNE, name="FT_bench", subject="bench")
    enqueue(services.redis, TRAINING, job.id, pipe)
    pipe.execute()
    return job.id


def a_jobs_life(services: Services) -> dict[str, Cost]:
    """What each step of a job asks of Redis."""
    redis, jobs, owner = services.redis, services.jobs, str(this_process())
    ids = [create(services) for _ in range(50)]
    attempts: dict[str, int] = {}

    def claim() -> None:
        job_id = ids[len(attempts)]
        attempts[job_id] = jobs.claim(job_id, owner)

    def each(step: Callable[[str, int], object]) -> Callable[[], object]:
        left = iter(attempts.items())
        return lambda: step(*next(left))

    return {
        "create and queue": cost(redis, partial(create, services), 50),
        "claim": cost(redis, claim, 50),
        "renew the lease (each second)": cost(redis, each(jobs.renew), 50),
        "report progress": cost(redis, each(lambda job_id, n: jobs.report(job_id, n, progress=0.5)), 50),
        "finish": cost(redis, each(lambda job_id, n: jobs.finish(job_id, n, JobStatus.FINISHED)), 50),
    }


def jobs_waiting(services: Services, sizes: tuple[int, ...]) -> dict[int, dict[str, Cost]]:
    """What it costs to go on while so many jobs wait in the queue."""
    services.redis.flushall()
    http = TestClient(management_app(services))
    reconciler = Reconciler(services)
    found: dict[int, dict[str, Cost]] = {}
    waiting = 0
    for size in sizes:
        for _ in range(size - waiting):
            create(services)
        waiting = size
        times = 5 if size > 1000 else 20

        status = f"/v1/jobs/{create(services)}/status"
        found[size] = {
            "GET /v1/jobs/?limit=50": cost(services.redis, partial(_get, http, "/v1/jobs?limit=50"), 20),
            "GET /v1/jobs/<id>/status/": cost(services.redis, partial(_get, http, status), 20),
            "create and queue a job": cost(services.redis, partial(create, services), 20),
            "a turn of the reconciler": cost(services.redis, reconciler.once, times),
            "GET /metrics": cost(services.redis, partial(_get, http, "/metrics"), times),
        }
        waiting += 21
    return found


def _get(http: TestClient, path: str) -> None:
    http.get(path).raise_for_status()


# -- what lies in S3 -------------------------------------------------------------------------------------------------


def timed(work: Callable[[], object], times: int) -> float:
    """Milliseconds, the fastest of some: what else the machine does only adds."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds) * 1000


def _begin(make: Callable[[], FastAPI], path: str) -> TestClient:
    """A new process, as far as what it knows goes, and its first list."""
    http = TestClient(make())
    _get(http, path)
    return http


def adapters_listed(services: Services, sizes: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """GET /v1/models/ with so many adapters: in a process that has just begun, and later."""
    found = {}
    made = 0
    for size in sizes:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda _: _adapter(services.s3), range(size - made)))
        made = size
        ask = partial(_begin, lambda: management_app(replace(services, adapters=Adapters(services.s3))), "/v1/models")
        services.s3.remove_object(bucket_name=ARTIFACTS, object_name=SNAPSHOT)
        first = timed(ask, 1)
        Adapters(services.s3).sweep()  # a new one: what is seeded lies behind the cursor of one that listed before
        begun = timed(ask, 3)
        http = ask()
        found[size] = {
            "first": first,
            "first, with a snapshot": begun,
            "again": timed(partial(_get, http, "/v1/models"), 3),
        }
        assert len(http.get("/v1/models").json()) == size
    return found


def _adapter(s3: Minio) -> None:
    adapter = new_id()
    manifest = AdapterManifest(
        adapter_id=adapter, base_model_id="org/base", base_revision="1", rank=8, target_modules=("q_proj",), files=(),
        finetune_id=adapter, dataset_id=adapter, dataset_sha256="0" * 64, created_at=now(),
    )  # fmt: skip
    write_object(s3, ARTIFACTS, f"{name_at(time.time() - SETTLED_SECONDS)}.{adapter}~00000000")
    put_manifest(s3, adapter_prefix(adapter), manifest)


def datasets_listed(services: Services, sizes: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """GET /v1/datasets/ with so many datasets, an upload, a deletion and a sweep beside them."""
    found = {}
    made = 0
    for size in sizes:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda _: _dataset(services.s3), range(size - made)))
        made = size
        ask = partial(_begin, lambda: dataset_app(services.s3, services.redis, DatasetSettings()), "/v1/datasets")
        services.s3.remove_object(bucket_name=DATASETS, object_name=SNAPSHOT)
        first = timed(ask, 1)
        swept = timed(lambda: sweep(Catalogue(services.s3)), 1)  # a process of its own: it reads all, too
        swept = min(swept, timed(lambda: sweep(Catalogue(services.s3)), 1))
        begun = timed(ask, 3)
        http = ask()
        again = timed(partial(_get, http, "/v1/datasets"), 5)
        uploaded: list[str] = []
        upload = timed(partial(_upload, http, uploaded), 5)
        delete = timed(partial(_delete, http, uploaded), 5)
        found[size] = {
            "first": first,
            "first, with a snapshot": begun,
            "again": again,
            "again, all made within 20 minutes": _all_in_the_window(services.s3),
            "upload": upload,
            "delete": delete,
            "sweep": swept,
        }
        assert len(http.get("/v1/datasets").json()) == size
    return found


def _all_in_the_window(s3: Minio) -> float:
    """Milliseconds of a list that reads all names again; without the answer, which is the same."""
    with mock.patch("hearth_storage.register.WINDOW_SECONDS", 2 * SETTLED_SECONDS):
        catalogue = Catalogue(s3)
        catalogue.usable()
        return timed(catalogue.usable, 3)


def _dataset(s3: Minio) -> None:
    """As the service leaves it, without its rows, which listing never reads; an hour ago, by its name in the log."""
    dataset_id = new_id()
    digest = sha256(dataset_id.encode()).hexdigest()
    record = Dataset(
        id=dataset_id, name="bench.jsonl", s3_path=metadata_key(dataset_id), description=None,
        format=DatasetFormat.MESSAGES, rows=1, turns=2, bytes=100, sha256=digest, created_at=now(),
    )  # fmt: skip
    write_object(s3, DATASETS, Use(digest, dataset_id, dataset_id).key)
    write_object(s3, DATASETS, f"{name_at(time.time() - SETTLED_SECONDS)}.{dataset_id}")
    write_object(s3, DATASETS, metadata_key(dataset_id), record.model_dump_json().encode())


def _upload(http: TestClient, made: list[str]) -> None:
    row = {"messages": [{"role": "user", "content": new_id()}, {"role": "assistant", "content": "yes"}]}
    files = {"file": ("one.jsonl", json.dumps(row).encode())}
    reply = http.post("/v1/datasets/upload", files=files)
    reply.raise_for_status()
    made.append(reply.json()["id"])


def _delete(http: TestClient, made: list[str]) -> None:
    http.delete(f"/v1/datasets/{made.pop()}").raise_for_status()
