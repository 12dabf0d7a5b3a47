"""A fine-tune job from data to adapter. The training itself is a process of its own, in its own environment."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset
from hearth_contracts.finetune import DoneEvent, Finetune, FinetuneResult, RunSpec, TrainerEvent
from hearth_contracts.jobs import JobKind
from hearth_contracts.models import MergeSubject, StoredModel
from hearth_jobs.attempt import Attempt, OutOfMemory, WorkFailed, with_attempt
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.store import JobStore
from hearth_storage.adapters import store_adapter
from hearth_storage.bundles import describe
from hearth_storage.checkpoints import delete_checkpoints
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import find_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from minio import Minio
from pydantic import BaseModel, TypeAdapter

from hearth_training.backends import backend_for
from hearth_training.card import card
from hearth_training.config import TrainingSettings
from hearth_training.curve import TRAINING_SHARE, Follower
from hearth_training.data import fetch_rows, read_dataset
from hearth_training.keeper import CheckpointKeeper
from hearth_training.merges import merge
from hearth_training.patience import patiently
from hearth_training.turns import take_turn

T = TypeVar("T")
EVENT: TypeAdapter[TrainerEvent] = TypeAdapter(TrainerEvent)


class AdapterConfig(BaseModel):
    """What we read of PEFT's adapter_config.json."""

    r: int
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What one attempt works with."""

    attempt: Attempt
    finetune: Finetune
    finetunes: FinetuneStore
    home: HomeSettings
    s3: Minio
    settings: TrainingSettings

    @property
    def folder(self) -> Path:
        """Data, checkpoints and output on this machine."""
        return self.home.runs / self.finetune.id

    @property
    def adapter(self) -> Path:
        """Where the trainer leaves the adapter, whole or not at all."""
        return self.folder / "adapter"

    def patiently(self, doing: str, work: Callable[[], T]) -> T:
        """What `work` gives, once S3 lets it."""
        return patiently(self.attempt, doing, work, self.settings.s3_patience)


def run(ticket: str) -> None:
    """What RQ calls: train the fine-tune whose turn it is, or do the merge that the ticket is for."""
    home = HomeSettings()
    redis = connect_redis(RedisSettings())
    jobs, finetunes = JobStore(redis), FinetuneStore(redis)
    s3 = connect_s3(S3Settings())
    job_id = take_turn(jobs, finetunes, ticket, has_a_cluster=TrainingSettings().training_executor == "ray")
    if job_id is None:
        return

    def body(attempt: Attempt) -> None:
        if jobs.get(job_id).kind is JobKind.MERGE:
            subject = MergeSubject.model_validate_json(jobs.subject(job_id))
            merge(attempt, subject, home, s3, TrainingSettings())
            return
        finetune = finetunes.get(jobs.subject(job_id))
        if finetune is None:
            raise WorkFailed("the fine-tune's record is gone; begin a new one")
        _train(Run(attempt, finetune, finetunes, home, s3, TrainingSettings()))

    with_attempt(jobs, job_id, home.job_log(job_id), body)


def _train(run: Run) -> None:
    attempt, finetune = run.attempt, run.finetune
    base = find_model(run.home.models, finetune.model_id)
    if base is None:
        raise WorkFailed(f"the base model {finetune.model_id} is no longer there; add it and begin a new fine-tune")
    if not run.settings.trainer_python.exists():
        raise WorkFailed(f"the training environment is missing ({run.settings.trainer_python}); run `make setup`")
    run.folder.mkdir(parents=True, exist_ok=True)
    dataset, spec = run.patiently("fetching the dataset", lambda: _fetch(run, base))
    result = run.folder / "result.json"
    if not (run.adapter.is_dir() and result.is_file()):  # else an attempt before this one died while storing it
        result.write_text(_run_trainer(run, spec).model_dump_json())
    attempt.report(progress=TRAINING_SHARE)
    attempt.check()
    done = DoneEvent.model_validate_json(result.read_text())
    run.patiently("storing the adapter", lambda: _store(run, base, dataset, done))
    for name in ("checkpoints", "adapter"):
        shutil.rmtree(run.folder / name, ignore_errors=True)
    for path in (spec.data_path, spec.validation_path):
        if path is not None:
            Path(path).unlink(missing_ok=True)


def _fetch(run: Run, base: StoredModel) -> tuple[Dataset, RunSpec]:
    """The dataset, and all that the trainer needs on this disk."""
    settings = run.finetune.hyperparameters
    dataset = read_dataset(run.s3, run.finetune.dataset_id)
    fetch_rows(run.s3, dataset, run.folder / "data.jsonl")
    validation = read_dataset(run.s3, settings.validation_dataset_id) if settings.validation_dataset_id else None
    if validation is not None:
        fetch_rows(run.s3, validation, run.folder / "validation.jsonl")
    return dataset, RunSpec(
        model_path=str(snapshot_path(run.home.models, base)),
        model_id=base.model_id,
        data_path=str(run.folder / "data.jsonl"),
        data_format=dataset.format,
        validation_path=str(run.folder / "validation.jsonl") if validation else None,
        validation_format=validation.format if validation else None,
        work_dir=str(run.folder),
        output_dir=str(run.adapter),
        hyperparameters=settings,
        resources=run.finetune.resources,
    )


def _run_trainer(run: Run, spec: RunSpec) -> DoneEvent:
    """Run the trainer and pass on what it says. Raises WorkFailed."""
    spec_path = run.folder / "run.json"
    spec_path.write_text(spec.model_dump_json(indent=2))
    with CheckpointKeeper(run.s3, run.finetunes, run.finetune.id, run.attempt, run.folder / "checkpoints") as keeper:
        run.patiently("looking for a checkpoint", keeper.bring)
        follower = Follower(run.attempt, run.finetunes, run.finetune.id, keeper)
        try:
            for line in backend_for(run.settings).lines(run.attempt, spec, spec_path):
                follower.take(EVENT.validate_json(line))
        except OutOfMemory as failure:
            raise WorkFailed(f"use a smaller batch_size, max_length or model: {failure}") from failure
    if follower.done is None:
        raise WorkFailed("the trainer ended without an adapter; the job's log may tell more")
    return follower.done


def _store(run: Run, base: StoredModel, dataset: Dataset, result: DoneEvent) -> None:
    """Write the card, make the adapter exist, and forget the checkpoints."""
    config = AdapterConfig.model_validate_json((run.adapter / "adapter_config.json").read_text())
    figures = result.model_dump(exclude={"event"}, exclude_none=True)
    manifest = AdapterManifest(
        adapter_id=run.finetune.adapter_id,
        base_model_id=base.model_id,
        base_revision=base.revision,
        rank=config.r,
        target_modules=tuple(sorted(config.target_modules)),
        files=(),
        finetune_id=run.finetune.id,
        dataset_id=dataset.id,
        dataset_sha256=dataset.sha256,
        license=base.license,
        training={"hyperparameters": run.finetune.hyperparameters.model_dump(), **figures},
        created_at=now(),
    )
    (run.adapter / "README.md").write_text(card(run.finetune.name, manifest, result), encoding="utf-8")
    ensure_bucket(run.s3, ARTIFACTS)
    store_adapter(run.s3, run.adapter, manifest.model_copy(update={"files": describe(run.adapter)}))
    run.finetunes.set_result(run.finetune.id, FinetuneResult(**result.model_dump(exclude={"event"})))
    delete_checkpoints(run.s3, run.finetune.id)
