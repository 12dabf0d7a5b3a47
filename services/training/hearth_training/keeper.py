"""Checkpoints on their way to S3 while the training goes on."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from hearth_contracts.base import now
from hearth_contracts.finetune import Metric
from hearth_jobs.attempt import Attempt
from hearth_jobs.finetunes import FinetuneStore
from hearth_storage.bundles import describe
from hearth_storage.checkpoints import CheckpointManifest, fetch_newer, finish_checkpoint, put_checkpoint_files
from hearth_storage.objects import ARTIFACTS, ensure_bucket
from minio import Minio
from minio.error import MinioException
from pydantic import BaseModel
from urllib3.exceptions import HTTPError

log = logging.getLogger(__name__)


class _Logged(BaseModel):
    """What the trainer logged of a step."""

    step: int
    epoch: float
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


class _State(BaseModel):
    """What we read of a trainer's state (transformers' TrainerState)."""

    max_steps: int
    log_history: list[_Logged]


class CheckpointKeeper:
    """Stores what the trainer has saved, one checkpoint at a time; trouble with S3 does not stop the training.

    A checkpoint that is not stored, or that the trainer has meanwhile replaced, is made up for by the next one.
    """

    def __init__(self, s3: Minio, finetunes: FinetuneStore, finetune_id: str, attempt: Attempt, folder: Path) -> None:
        self._s3 = s3
        self._finetunes = finetunes
        self._finetune_id = finetune_id
        self._attempt = attempt
        self._folder = folder
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._last: Future[None] | None = None

    def __enter__(self) -> "CheckpointKeeper":
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until the last one is stored: what is KILLED or waits for a worker can go on from it elsewhere."""
        self._pool.shutdown(wait=True)

    def bring(self) -> None:
        """Fetch from S3 what is newer than the checkpoints on this disk, as another worker may have left it."""
        ensure_bucket(self._s3, ARTIFACTS)
        step = fetch_newer(self._s3, self._finetune_id, self._folder, above=max(self._steps_here(), default=0))
        if step is not None:
            self._attempt.log(f"checkpoint of step {step} fetched from S3")

    def _steps_here(self) -> list[int]:
        """Of the checkpoints on this disk; one without its state, written last, is none."""
        states = self._folder.glob("checkpoint-*/trainer_state.json")
        return [int(path.parent.name.partition("-")[2]) for path in states]

    def points(self, step: int) -> list[Metric]:
        """The curve up to `step`, as its checkpoint on this disk knows it."""
        path = self._folder / f"checkpoint-{step}" / "trainer_state.json"
        state = _State.model_validate_json(path.read_bytes())
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        steps = [each for each in state.log_history if each.loss is not None]
        return [Metric(**each.model_dump(), max_steps=state.max_steps, at=at) for each in steps]

    def saved(self, step: int) -> None:
        """The checkpoint of `step` is whole: store it, in place of one that still waits for its turn."""
        if self._last is not None:
            self._last.cancel()
        self._last = self._pool.submit(self._store, step)

    def _store(self, step: int) -> None:
        folder = self._folder / f"checkpoint-{step}"
        try:
            manifest = CheckpointManifest(
                finetune_id=self._finetune_id,
                step=step,
                job_id=self._attempt.job_id,
                attempt=self._attempt.number,
                files=describe(folder),
                created_at=now(),
            )
            put_checkpoint_files(self._s3, folder, manifest)
            self._attempt.report()  # raises when another attempt holds the job: then nothing more may be written
            finish_checkpoint(self._s3, manifest, keep=self._steps_here())
            self._finetunes.set_checkpoint(self._finetune_id, step)
        except FileNotFoundError:
            log.info("checkpoint %d was replaced by a newer one before it was stored", step)
        except (HTTPError, MinioException, OSError) as error:
            log.warning("checkpoint %d is not in S3, the next one will be: %s", step, error)
