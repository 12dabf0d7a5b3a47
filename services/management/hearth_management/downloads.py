"""The download worker: jobs that bring a model into the store, from the hub or from a folder.

`python -m hearth_management.downloads` runs it. An attempt at a download goes on where the one before it ended,
in mid-file too (`large_files`).
"""

import json
import shutil
import sys
import time

from hearth_contracts.base import now
from hearth_contracts.models import StoredModel
from hearth_jobs.attempt import Attempt, WorkFailed, with_attempt
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.queues import DOWNLOADS
from hearth_jobs.store import JobStore
from hearth_jobs.worker import work
from hearth_models.events import EVENT, Fetched, Progress, environment, seconds_left
from hearth_models.refusals import Refused
from hearth_models.share import share_model
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import model_folder, record_model
from hearth_storage.objects import connect as connect_s3
from hearth_telemetry.logs import configure_logging
from hearth_telemetry.traces import configure_tracing

GRACE_SECONDS = 3.0


def run(job_id: str) -> None:
    """What RQ calls: download or import the model that the job is about."""
    home, s3 = HomeSettings(), S3Settings()
    store = JobStore(connect(RedisSettings()))
    subject = json.loads(store.subject(job_id))
    with_attempt(store, job_id, home.job_log(job_id), lambda attempt: _bring(attempt, home, s3, subject))


def _bring(attempt: Attempt, home: HomeSettings, s3: S3Settings, subject: dict[str, str]) -> None:
    model_id, folder = subject["model_id"], subject.get("folder")
    command = [sys.executable, "-m", "hearth_management.fetch", "import" if folder else "download", model_id]
    command.append(str(home.models))
    if folder:
        command += ["--folder", str(home.imports / folder)]
    attempt.report(stage="copying" if folder else "asking the hub")
    began = time.monotonic()
    first: int | None = None
    fetched: Fetched | None = None
    for line in attempt.lines(command, env=environment(), grace=GRACE_SECONDS):
        event = EVENT.validate_json(line)
        if isinstance(event, Progress):
            first = event.done if first is None else first
            attempt.report(
                progress=event.done / event.total if event.total else 0,
                stage=f"{event.done / 2**20:.0f} of {event.total / 2**20:.0f} MiB",
                eta_seconds=seconds_left(event, first, time.monotonic() - began),
            )
        elif isinstance(event, Fetched):
            fetched = event
        else:
            shutil.rmtree(model_folder(home.models, model_id) / "importing", ignore_errors=True)
            raise WorkFailed(event.reason)
    if fetched is None:
        raise WorkFailed(f"the download of {model_id} ended without a word; the job's log may tell more")
    attempt.check()
    model = StoredModel(model_id=model_id, created_at=now(), **fetched.model_dump(exclude={"event"}))
    if s3.share_models:
        try:
            share_model(connect_s3(s3), home.models, model, attempt)
        except Refused as refusal:
            raise WorkFailed(str(refusal)) from refusal
    record_model(home.models, model)


def main() -> None:
    """Run the worker until told to stop."""
    configure_logging("downloads")
    configure_tracing("downloads")
    work(connect(RedisSettings()), [DOWNLOADS.queue], "downloads")


if __name__ == "__main__":
    main()
