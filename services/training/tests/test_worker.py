"""A real worker with a real trainer against real Redis and S3: how a fine-tune ends, and that nothing is left of it."""

from io import BytesIO
from pathlib import Path

import psutil
import pytest
from hearth_contracts.jobs import JobStatus
from hearth_contracts.names import new_id
from hearth_jobs.queues import TRAINING, enqueue
from hearth_storage.adapters import fetch_adapter, read_manifest
from hearth_storage.config import HomeSettings
from hearth_storage.model_store import delete_model
from hearth_storage.objects import DATASETS

from services.training.tests.place import BASE, SHORT, Place, wait_for

pytestmark = pytest.mark.timeout(400)
LONG = SHORT.model_copy(update={"max_steps": 160})  # a checkpoint every 16 steps
ENDLESS = SHORT.model_copy(update={"max_steps": 100_000})


def test_a_whole_run_leaves_an_adapter_that_can_be_verified(place: Place, tmp_path: Path) -> None:
    dataset = place.dataset()
    finetune = place.begin(dataset.id, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FINISHED, place.told(finetune)
    assert (job.progress, job.attempt) == (1, 1)

    folder = fetch_adapter(place.s3, finetune.adapter_id, tmp_path)  # raises if a hash is wrong
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    manifest = read_manifest(place.s3, finetune.adapter_id)
    assert manifest is not None
    assert (manifest.base_model_id, manifest.base_revision, manifest.license) == (BASE, "main", "apache-2.0")
    assert (manifest.finetune_id, manifest.dataset_id) == (finetune.id, dataset.id)
    assert (manifest.rank, manifest.dataset_sha256) == (SHORT.lora_rank, dataset.sha256)
    assert manifest.training["steps"] == 10
    assert list(place.curve(finetune)) == list(range(1, 11))
    # Its data and checkpoints are gone; what tells how it went stays.
    assert {path.name for path in (place.home.runs / finetune.id).iterdir()} == {"result.json", "run.json"}


@pytest.mark.parametrize("killed", ["worker", "trainer"])
def test_its_worker_or_trainer_killed_the_training_dies_and_goes_on_from_its_checkpoint(
    place: Place, tmp_path: Path, killed: str
) -> None:
    finetune = place.begin(place.dataset().id, LONG)
    with place.worker() as first:
        place.until_step(finetune, 40)
        for process in [first] if killed == "worker" else place.trainers():
            process.kill()
        wait_for(lambda: not place.trainers(), 10, lambda: f"the trainer lives on: {place.trainers()}")
    assert place.job(finetune).status is JobStatus.RUNNING

    # What the reaper in management does once the lease has ended.
    (expired,) = wait_for(place.jobs.expired, 15, lambda: place.told(finetune))
    assert place.jobs.expire(expired, None, "waiting for another attempt") is JobStatus.RUNNING
    enqueue(place.redis, TRAINING, finetune.job_id)
    with place.worker():
        job = place.over(finetune)

    assert (job.status, job.attempt) == (JobStatus.FINISHED, 2), place.told(finetune)
    assert place.resumed_at(finetune) > 0
    assert list(place.curve(finetune)) == list(range(1, 161))  # what the dead worker had no time to pass on, too
    fetch_adapter(place.s3, finetune.adapter_id, tmp_path)


def test_a_run_is_given_to_the_trainer_that_stands_by(place: Place) -> None:
    def waiting() -> list[psutil.Process]:
        return [each for each in place.trainers() if "hearth_trainer --wait" in " ".join(each.cmdline()[-4:])]

    with place.worker(warm=True):
        spare = wait_for(waiting, 60, lambda: "no trainer stands by")[-1]
        finetune = place.begin(place.dataset().id, ENDLESS)
        place.until_step(finetune, 3)
        assert spare.is_running()
        assert not [each for each in place.trainers() if each.cmdline()[-1].endswith("run.json")]  # none was started
        place.jobs.interrupt(finetune.job_id)
        assert place.over(finetune).status is JobStatus.KILLED, place.told(finetune)
        wait_for(lambda: not spare.is_running(), 10, lambda: f"it lives on: {spare}")


def test_a_deleted_dataset_fails_the_job_with_words(place: Place) -> None:
    missing = new_id()
    finetune = place.begin(missing, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error == f"dataset {missing} has been deleted; upload it again and begin a new fine-tune"


def test_a_dataset_that_was_changed_in_the_store_is_not_trained_on(place: Place) -> None:
    dataset = place.dataset()
    body = b'{"messages": []}\n'
    place.s3.put_object(
        bucket_name=DATASETS, object_name=f"{dataset.id}/data.jsonl", data=BytesIO(body), length=len(body)
    )
    finetune = place.begin(dataset.id, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error is not None and dataset.id in job.error and "upload the file again" in job.error
    assert not (place.home.runs / finetune.id / "data.jsonl").exists()


def test_a_deleted_base_model_fails_the_job_with_words(place: Place, tmp_path: Path) -> None:
    place.home = HomeSettings(home=tmp_path)
    place.home.models.mkdir()
    delete_model(place.home.models, BASE)
    finetune = place.begin(place.dataset().id, SHORT)
    with place.worker():
        job = place.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error == f"the base model {BASE} is no longer there; add it and begin a new fine-tune"
