"""What the API says in tests of how pages look: fixed records, of the contracts' own classes so that they do not drift.

They stand in for the services because a picture needs the same data each time.
"""

import json
from datetime import timedelta
from typing import Any

from hearth_contracts.access import ApiKey, AuditEntry, Limits, Role, UsageRow
from hearth_contracts.base import Frozen, Timestamp
from hearth_contracts.datasets import Dataset, DatasetFormat, TokenCount
from hearth_contracts.deploy import Deployed, DeploymentState, DeployStatus, NamedDeployment, ReplicaStatus, Task
from hearth_contracts.finetune import FinetuneMetrics, FinetunePlan, FinetuneResult, FinetuneStatus, Metric
from hearth_contracts.fit import FitReport, Need, Resource
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.models import HubModel, ModelEntry
from hearth_contracts.system import QueueReport, Space, SystemReport
from pydantic import TypeAdapter

GIB = 2**30
NOW = TypeAdapter(Timestamp).validate_python("2026-03-02T10:00:00")
BASE, OTHER, ADAPTER, SECOND = (
    "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "google/gemma-3-270m-it",
    "support-0000000a",
    "formal-tone-0000000b",
)
EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"


def uuid(number: int) -> str:
    """A record id that tells its number."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def before(**ago: float) -> Any:
    """A time so long ago."""
    return NOW - timedelta(**ago)


def job(number: int, name: str, kind: JobKind, status: JobStatus, **more: Any) -> Job:
    """A job that began some minutes ago, the higher its number the longer."""
    began = before(minutes=7 * number)
    over = {"finished_at": began + timedelta(minutes=3)} if status.is_over else {}
    fields: dict[str, Any] = {"stage": "done" if status.is_over else "queued", "attempt": 1, **over, **more}
    return Job(id=uuid(number), name=name, kind=kind, status=status, created_at=began, started_at=began, **fields)


JOBS = (
    job(
        1,
        f"FT_{BASE}_{uuid(0x20)}",
        JobKind.FINETUNE,
        JobStatus.RUNNING,
        progress=0.42,
        stage="step 63 of 150",
        eta_seconds=512,
    ),
    job(
        2,
        f"DOWNLOAD_{OTHER}",
        JobKind.DOWNLOAD,
        JobStatus.RUNNING,
        progress=0.71,
        stage="0.4 of 0.6 GB",
        eta_seconds=24,
    ),
    job(3, f"FT_{BASE}_{uuid(0x21)}", JobKind.FINETUNE, JobStatus.CREATED, attempt=0),
    job(4, f"DEPLOY_{BASE}_adapters_{ADAPTER}", JobKind.DEPLOY, JobStatus.RUNNING, progress=1, stage="serving"),
    job(
        5,
        f"FT_{BASE}_{uuid(0x22)}",
        JobKind.FINETUNE,
        JobStatus.FAILED,
        progress=0.1,
        error="every row is longer than max_length 128: raise max_length, or shorten the rows",
    ),
    job(6, f"FT_{BASE}_{uuid(0x20)}", JobKind.FINETUNE, JobStatus.FINISHED, progress=1),
    job(7, f"DOWNLOAD_{BASE}", JobKind.DOWNLOAD, JobStatus.FINISHED, progress=1),
    job(8, "IMPORT_acme/from-a-folder", JobKind.IMPORT, JobStatus.KILLED, progress=0.3),
)

MODELS = (
    ModelEntry(
        model_id=BASE, adapter=False, size_bytes=int(3.4 * GIB), license="apache-2.0", created_at=before(days=9)
    ),
    ModelEntry(
        model_id=EMBEDDING, adapter=False, size_bytes=91 * 2**20, license="apache-2.0", created_at=before(days=9)
    ),
    ModelEntry(
        model_id="acme/house-model", adapter=False, size_bytes=900 * 2**20, license=None, created_at=before(days=2)
    ),
    ModelEntry(
        model_id=ADAPTER,
        adapter=True,
        base_model_id=BASE,
        size_bytes=36 * 2**20,
        license="apache-2.0",
        created_at=before(hours=3),
    ),
    ModelEntry(
        model_id=SECOND,
        adapter=True,
        base_model_id=BASE,
        size_bytes=36 * 2**20,
        license="apache-2.0",
        created_at=before(hours=2),
    ),
)


def dataset(number: int, name: str, rows: int, **more: Any) -> Dataset:
    """A dataset."""
    fields: dict[str, Any] = {"format": DatasetFormat.MESSAGES, "description": None, "duplicates": 0, **more}
    return Dataset(
        id=uuid(number),
        name=name,
        s3_path=f"{uuid(number)}/metadata.json",
        rows=rows,
        turns=rows * 2,
        bytes=rows * 780,
        sha256="0" * 64,
        created_at=before(hours=number),
        **fields,
    )


DATASETS = (
    dataset(0x20, "support-tickets.jsonl", 4210, description="Answers of the support team, 2025", duplicates=12),
    dataset(0x21, "tone.parquet", 900, format=DatasetFormat.PREFERENCE),
    dataset(0x22, "handbook.jsonl.gz", 310, format=DatasetFormat.TEXT, description="The handbook, by paragraph"),
)

PREVIEW = {
    "rows": [
        {
            "line": line,
            "messages": [
                {"role": "system", "content": "You are the support desk of a small bakery."},
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answered},
            ],
            "learn": [False, False, True],
            "tools": None,
        }
        for line, asked, answered in (
            (
                1,
                "Do you bake on Sundays?",
                "Yes, from seven until noon. Order by Saturday evening and it is still warm.",
            ),
            (2, "My order did not arrive.", "I am sorry. Tell me its number, and I will see where it is."),
        )
    ],
    "next": "3-812",
}


def curve(steps: int, of: int, start: float = 2.6, floor: float = 0.4) -> tuple[Metric, ...]:
    """A loss that falls, with the waves that losses have."""
    return tuple(
        Metric(
            step=step,
            max_steps=of,
            epoch=round(3 * step / of, 2),
            learning_rate=2e-4 * (1 - step / of),
            grad_norm=0.8,
            loss=round(floor + (start - floor) / (1 + step / 12) + 0.08 * ((step * 7919) % 11 - 5) / 5, 4),
            eval_loss=round(floor + 0.15 + (start - floor) / (1 + step / 12), 4) if step % 15 == 0 else None,
            tokens_per_second=1830,
            memory_bytes=int(4.2 * GIB),
            eta_seconds=6 * (of - step),
            at=before(minutes=7) + timedelta(seconds=6 * step),
        )
        for step in range(1, steps + 1)
    )


def finetune(number: int, name: str, about: Job, **more: Any) -> FinetuneStatus:
    """A fine-tune of the base."""
    given = more.pop("hyperparameters", Hyperparameters(validation_split=0.1, max_length=512))
    return FinetuneStatus(
        id=uuid(number),
        name=name,
        model_id=BASE,
        dataset_id=uuid(0x20),
        adapter_id=f"{name.lower().replace(' ', '-')}-{number:08x}",
        hyperparameters=given,
        job_id=about.id,
        created_at=about.created_at,
        job=about,
        **more,
    )


FINETUNES = (
    finetune(0x0C, "Support again", JOBS[0], checkpoint_step=60),
    finetune(0x0D, "Waiting", JOBS[2], position=1),
    finetune(0x0E, "Too short", JOBS[4], hyperparameters=Hyperparameters(max_length=128)),
    finetune(
        0x0A,
        "Support",
        JOBS[5],
        hyperparameters=Hyperparameters(lora_rank=32, lora_alpha=64, validation_split=0.1),
        result=FinetuneResult(
            steps=150, train_loss=0.71, tokens=812_000, seconds=903, base_eval_loss=2.41, eval_loss=0.66
        ),
    ),
)
POINTS = {uuid(0x0C): curve(63, 150), uuid(0x0A): curve(150, 150, start=2.9, floor=0.3)}

FITS = FitReport(
    fits=True,
    needs=(
        Need(
            resource=Resource.MEMORY,
            needed_bytes=5 * GIB,
            available_bytes=11 * GIB,
            total_bytes=24 * GIB,
            fits=True,
            parts={"weights": int(3.4 * GIB), "activations": GIB, "optimizer": int(0.6 * GIB)},
        ),
    ),
)
SYSTEM = SystemReport(
    memory=Space(total_bytes=64 * GIB, free_bytes=41 * GIB),
    gpus=(Space(total_bytes=80 * GIB, free_bytes=6 * GIB),),
    disk=Space(total_bytes=900 * GIB, free_bytes=512 * GIB),
    queues=tuple(
        QueueReport(queue=name, waiting=waiting, workers=1)
        for name, waiting in (("downloads", 0), ("training", 1), ("inference-llm", 0), ("inference-embedding", 0))
    ),
    imports=("gemma-3-270m", "house-model"),
)
LLM = DeployStatus(
    model_id=BASE,
    adapter_ids=(ADAPTER,),
    job=JOBS[3],
    state=DeploymentState.READY,
    replicas=ReplicaStatus(desired=1, ready=1),
    serving=Deployed(model_id=BASE, adapter_ids=(ADAPTER,)),
)
DEPLOYMENTS = (
    NamedDeployment(name="default", task=Task.GENERATE, served_name="Compressa-LLM", status=LLM),
    NamedDeployment(
        name="embedding",
        task=Task.EMBED,
        served_name="Compressa-Embedding",
        status=DeployStatus(
            model_id=EMBEDDING,
            adapter_ids=(),
            state=DeploymentState.LOADING,
            detail="the engine starts",
            job=JOBS[3],
            replicas=ReplicaStatus(desired=1, ready=0),
        ),
    ),
    NamedDeployment(name="rerank", task=Task.RERANK, served_name="Compressa-Rerank", status=None),
)
SERVED = [
    {"id": name, "object": "model", "created": 0, "owned_by": "hearth", "parent": parent}
    for name, parent in (("Compressa-LLM", None), (BASE, None), (ADAPTER, BASE))
]
KEYS = (
    ApiKey(id="0123456789ab", name="boss", role=Role.ADMIN, created_at=before(days=40)),
    ApiKey(
        id="00000000cafe",
        name="website chat",
        role=Role.USER,
        created_at=before(days=12),
        models=("Compressa-LLM",),
        limits=Limits(tokens_per_minute=100_000, concurrent_streams=4),
        expires_at=NOW + timedelta(days=300),
    ),
    ApiKey(id="00000000beef", name="trial", role=Role.USER, created_at=before(days=30), revoked_at=before(days=5)),
)
USAGE = tuple(
    UsageRow(
        day=str((NOW - timedelta(days=ago)).date()),
        key_id=key,
        model=model,
        requests=40 + ago,
        prompt_tokens=9000 + 700 * ((ago * 5) % 9),
        completion_tokens=21_000 + 2100 * ((ago * 7) % 11),
    )
    for ago in range(0, 24)
    for key, model in (("00000000cafe", "Compressa-LLM"), ("0123456789ab", ADAPTER))
)
AUDIT = tuple(
    AuditEntry(
        at=before(minutes=9 * number),
        key_id="0123456789ab",
        key_name="boss",
        method=method,
        path=path,
        status=200,
        request_id=f"r-{number}",
        address="127.0.0.1",
    )
    for number, (method, path) in enumerate(
        (("POST", "/api/v1/deploy/"), ("POST", "/api/v1/finetune/"), ("DELETE", "/api/v1/models/acme/old/"))
    )
)
HUB = (
    HubModel(model_id="HuggingFaceTB/SmolLM2-135M-Instruct", downloads=812_345, license="apache-2.0"),
    HubModel(model_id="google/gemma-3-270m-it", downloads=455_120, license="gemma", gated=True),
)
LOG = [
    "loading the base",
    "encoding 3,789 rows",
    *(f"step {step} of 150, loss {2.6 - step / 50:.3f}" for step in range(1, 40)),
]
METRICS = (
    'hearth_gateway_tokens_total{kind="completion_tokens",model="m"} 91280.0\nhearth_gateway_requests_in_flight 3.0\n'
)


def plain(of: Any) -> Any:
    """Contracts as JSON has them."""
    if isinstance(of, Frozen):
        return of.model_dump(mode="json")
    return [plain(each) for each in of] if isinstance(of, list | tuple) else of


def events(*given: tuple[str, str, str]) -> str:
    """Server-sent events of (event, id, data)."""
    return "".join(f"event: {event}\nid: {number}\ndata: {data}\n\n" for event, number, data in given)


def log_events(about: Job) -> str:
    """A job's log, followed to its end."""
    lines = [("message", str(number), line) for number, line in enumerate(LOG, 1)]
    return events(*lines, ("end", "0", about.model_dump_json()))


def metric_events(of: FinetuneStatus) -> str:
    """A curve, followed to its end."""
    points = [("message", str(point.step), point.model_dump_json()) for point in POINTS.get(of.id, ())]
    return events(*points, ("end", "0", of.model_dump_json()))


def whole_curve(finetune_id: str) -> str:
    """A curve as it is."""
    about = next(each.job for each in FINETUNES if each.id == finetune_id)
    return FinetuneMetrics(finetune_id=finetune_id, job=about, points=POINTS.get(finetune_id, ())).model_dump_json()


def plan() -> FinetunePlan:
    """What a fine-tune without settings would have."""
    return FinetunePlan(
        model_id=BASE,
        dataset_id=uuid(0x20),
        rows=4210,
        steps=1581,
        chosen=("learning_rate", "max_length"),
        hyperparameters=Hyperparameters(max_length=768, learning_rate=2e-4),
    )


TOKENS = TokenCount(model_id=BASE, dataset_id=uuid(0x20), rows=4210, tokens=1_263_000, longest_row=912, exact=True)

Reply = tuple[str, str]
"""A body and its media type."""


def replies() -> dict[str, Reply]:
    """The answer to each `METHOD path` that a page may ask for."""
    as_json: dict[str, Any] = {
        "GET deployments": DEPLOYMENTS,
        "GET system": SYSTEM,
        "GET models": MODELS,
        "GET jobs": JOBS,
        "GET datasets": DATASETS,
        "GET finetune": FINETUNES,
        "GET finetune/models": [MODELS[0], MODELS[2]],
        "GET openai/models": {"object": "list", "data": SERVED},
        "GET hub/models": HUB,
        "GET keys": KEYS,
        "GET usage": USAGE,
        "GET audit": AUDIT,
        f"GET datasets/{uuid(0x20)}/metadata": DATASETS[0],
        f"GET datasets/{uuid(0x20)}/preview": PREVIEW,
        "GET finetune/tokens": TOKENS,
        "POST finetune": FITS,
        "POST deploy": FITS,
        "POST finetune/plan": plan(),
    }
    as_json |= {f"GET jobs/{each.id}/status": each for each in JOBS}
    as_json |= {f"GET finetune/{each.id}": each for each in FINETUNES}
    found = {name: (json.dumps(plain(body)), "application/json") for name, body in as_json.items()}
    stream = "text/event-stream"
    found |= {f"GET jobs/{each.id}/logs": (log_events(each), stream) for each in JOBS}
    found |= {f"GET finetune/{each.id}/metrics": (metric_events(each), stream) for each in FINETUNES}
    return found


def chosen_jobs(query: dict[str, list[str]]) -> str:
    """The jobs that a filter lets through."""
    kinds, statuses = query.get("kind", list(JobKind)), query.get("status", list(JobStatus))
    return json.dumps(plain([each for each in JOBS if each.kind in kinds and each.status in statuses]))
