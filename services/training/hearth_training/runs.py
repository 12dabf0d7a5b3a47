"""A fine-tune job from data to adapter. The training itself is a process of its own, in its own environment."""

import os
import shutil
from pathlib import Path

from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset
from hearth_contracts.finetune import DoneEvent, Finetune, RefusedEvent, RunSpec, StepEvent, TrainerEvent
from hearth_jobs.attempt import Attempt, WorkFailed, with_attempt
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.store import JobStore
from hearth_storage.adapters import describe, store_adapter
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import StoredModel, find_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from minio import Minio
from pydantic import BaseModel, TypeAdapter

from hearth_training.config import TrainingSettings
from hearth_training.data import fetch_rows, read_dataset

EVENT: TypeAdapter[TrainerEvent] = TypeAdapter(TrainerEvent)
SECRETS = ("HEARTH_REDIS_URL", "HEARTH_S3_ACCESS_KEY", "HEARTH_S3_SECRET_KEY", "HF_TOKEN")
TRAINING_SHARE = 0.95
"""The part of a job's progress that its steps make; the rest is fetching and storing."""


class AdapterConfig(BaseModel):
    """What we read of PEFT's adapter_config.json."""

    r: int
    target_modules: tuple[str, ...]


def run(job_id: str) -> None:
    """What RQ calls: train the fine-tune that the job is about."""
    home = HomeSettings()
    redis = connect_redis(RedisSettings())
    jobs = JobStore(redis)
    finetune = FinetuneStore(redis).get(jobs.subject(job_id))
    s3 = connect_s3(S3Settings())

    def body(attempt: Attempt) -> None:
        if finetune is None:
            raise WorkFailed("the fine-tune's record is gone; begin a new one")
        _train(attempt, finetune, home, s3, TrainingSettings())

    with_attempt(jobs, job_id, home.job_log(job_id), body)


def _train(attempt: Attempt, finetune: Finetune, home: HomeSettings, s3: Minio, settings: TrainingSettings) -> None:
    attempt.report(stage="fetching the dataset")
    base = find_model(home.models, finetune.model_id)
    if base is None:
        raise WorkFailed(f"the base model {finetune.model_id} is no longer there; add it and begin a new fine-tune")
    if not settings.trainer_python.exists():
        raise WorkFailed(f"the training environment is missing ({settings.trainer_python}); run `make setup`")
    folder = home.runs / finetune.id
    folder.mkdir(parents=True, exist_ok=True)
    dataset = read_dataset(s3, finetune.dataset_id)
    rows = folder / "data.jsonl"
    fetch_rows(s3, dataset, rows)
    adapter = folder / "adapter"
    result = folder / "result.json"
    if not (adapter.is_dir() and result.is_file()):  # else an attempt before this one died while storing it
        spec = RunSpec(
            model_path=str(snapshot_path(home.models, base)),
            model_id=finetune.model_id,
            data_path=str(rows),
            data_format=dataset.format,
            work_dir=str(folder),
            output_dir=str(adapter),
            hyperparameters=finetune.hyperparameters,
        )
        done = _run_trainer(attempt, spec, folder, settings)
        result.write_text(done.model_dump_json())
    attempt.report(progress=TRAINING_SHARE, stage="storing the adapter")
    attempt.check()
    ensure_bucket(s3, ARTIFACTS)
    store_adapter(s3, adapter, _manifest(finetune, base, dataset, adapter, result))
    for name in ("checkpoints", "adapter"):
        shutil.rmtree(folder / name, ignore_errors=True)
    rows.unlink(missing_ok=True)


def _run_trainer(attempt: Attempt, spec: RunSpec, folder: Path, settings: TrainingSettings) -> DoneEvent:
    """Run the trainer and pass on what it says. Raises WorkFailed."""
    spec_path = folder / "run.json"
    spec_path.write_text(spec.model_dump_json(indent=2))
    command = [str(settings.trainer_python), "-m", "hearth_trainer", str(spec_path)]
    env = {name: value for name, value in os.environ.items() if name not in SECRETS}
    done: DoneEvent | None = None
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        try:
            for line in attempt.lines(command, env=env, grace=settings.trainer_grace, cwd=folder):
                event = EVENT.validate_json(line)
                if isinstance(event, StepEvent):
                    metrics.write(event.model_dump_json() + "\n")
                    metrics.flush()
                    loss = "" if event.loss is None else f", loss {event.loss:.4g}"
                    attempt.report(
                        progress=TRAINING_SHARE * event.step / event.max_steps,
                        stage=f"step {event.step}/{event.max_steps}{loss}",
                        eta_seconds=event.eta_seconds,
                    )
                elif isinstance(event, RefusedEvent):
                    raise WorkFailed(event.reason)
                elif isinstance(event, DoneEvent):
                    done = event
                else:
                    attempt.report(stage=event.stage)
        except WorkFailed as failure:
            if "code 137" in str(failure):
                raise WorkFailed(
                    "the training was killed, most likely for want of memory: "
                    "use a smaller batch_size, max_length or model"
                ) from failure
            raise
    if done is None:
        raise WorkFailed("the trainer ended without an adapter; the job's log may tell more")
    return done


def _manifest(finetune: Finetune, base: StoredModel, dataset: Dataset, adapter: Path, result: Path) -> AdapterManifest:
    config = AdapterConfig.model_validate_json((adapter / "adapter_config.json").read_text())
    done = DoneEvent.model_validate_json(result.read_text())
    return AdapterManifest(
        adapter_id=finetune.adapter_id,
        base_model_id=base.model_id,
        base_revision=base.revision,
        rank=config.r,
        target_modules=tuple(sorted(config.target_modules)),
        files=describe(adapter),
        finetune_id=finetune.id,
        dataset_id=dataset.id,
        dataset_sha256=dataset.sha256,
        license=base.license,
        training={
            "hyperparameters": finetune.hyperparameters.model_dump(),
            "steps": done.steps,
            "train_loss": done.train_loss,
            "seconds": done.seconds,
        },
        created_at=now(),
    )
