"""The download worker: jobs that bring a model into the store, from the hub or from a folder.

`python -m hearth_management.downloads` runs it. An attempt at a download goes on where the one before it ended,
in mid-file too (`large_files`).
"""

import json
import os
import shutil
import sys
import time

from hearth_contracts.base import now
from hearth_jobs.attempt import Attempt, WorkFailed, with_attempt
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect
from hearth_jobs.queues import DOWNLOADS
from hearth_jobs.store import JobStore
from hearth_jobs.worker import work
from hearth_storage.config import HomeSettings
from hearth_storage.model_store import StoredModel, model_folder, record_model
from hearth_telemetry.logs import configure_logging
from hearth_telemetry.traces import configure_tracing
from pydantic import TypeAdapter

from hearth_management.fetch import Fetched, FetchEvent, Progress

EVENT: TypeAdapter[FetchEvent] = TypeAdapter(FetchEvent)
GRACE_SECONDS = 3.0
NOT_FOR_THE_CHILD = ("HEARTH_REDIS_URL", "HEARTH_S3_ACCESS_KEY", "HEARTH_S3_SECRET_KEY", "OTEL_EXPORTER_OTLP_HEADERS")


def run(job_id: str) -> None:
    """What RQ calls: download or import the model that the job is about."""
    home = HomeSettings()
    store = JobStore(connect(RedisSettings()))
    subject = json.loads(store.subject(job_id))
    with_attempt(store, job_id, home.job_log(job_id), lambda attempt: _bring(attempt, home, subject))


def _bring(attempt: Attempt, home: HomeSettings, subject: dict[str, str]) -> None:
    model_id, folder = subject["model_id"], subject.get("folder")
    command = [sys.executable, "-m", "hearth_management.fetch", "import" if folder else "download", model_id]
    command.append(str(home.models))
    if folder:
        command += ["--folder", str(home.imports / folder)]
    attempt.report(stage="copying" if folder else "asking the hub")
    env = {name: value for name, value in os.environ.items() if name not in NOT_FOR_THE_CHILD}
    env["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # the job tells it, and its log is for words
    began = time.monotonic()
    first: int | None = None
    fetched: Fetched | None = None
    for line in attempt.lines(command, env=env, grace=GRACE_SECONDS):
        event = EVENT.validate_json(line)
        if isinstance(event, Progress):
            first = event.done if first is None else first
            attempt.report(
                progress=event.done / event.total if event.total else 0,
                stage=f"{event.done / 2**20:.0f} of {event.total / 2**20:.0f} MiB",
                eta_seconds=_eta(event, first, time.monotonic() - began),
            )
        elif isinstance(event, Fetched):
            fetched = event
        else:
            shutil.rmtree(model_folder(home.models, model_id) / "importing", ignore_errors=True)
            raise WorkFailed(event.reason)
    if fetched is None:
        raise WorkFailed(f"the download of {model_id} ended without a word; the job's log may tell more")
    attempt.check()
    record_model(
        home.models,
        StoredModel(
            model_id=model_id,
            revision=fetched.revision,
            size_bytes=fetched.size_bytes,
            license=fetched.license,
            created_at=now(),
        ),
    )


def _eta(event: Progress, first: int, seconds: float) -> float | None:
    """Seconds left at the speed of this attempt, once it has one."""
    brought = event.done - first
    return None if brought <= 0 else (event.total - event.done) * seconds / brought


def main() -> None:
    """Run the worker until told to stop."""
    configure_logging("downloads")
    configure_tracing("downloads")
    work(connect(RedisSettings()), DOWNLOADS.queue, "downloads")


if __name__ == "__main__":
    main()
