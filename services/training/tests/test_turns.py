"""Whose turn it is, and how many processes train, decided without training."""

import os
from pathlib import Path

import pytest
from hearth_contracts.base import now
from hearth_contracts.finetune import Finetune, Resources
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import Job, JobKind, JobStatus
from hearth_contracts.names import new_id
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.queues import TRAINING, TRAINING_ON_A_CLUSTER, transaction, waiting
from hearth_jobs.store import JobStore
from hearth_training.command import gpus_here, trainer_command
from hearth_training.turns import take_turn
from redis import Redis

NOTHING_ASKED = Resources()
ON_TWO = Resources(workers=2)


def begin(redis: Redis, priority: int = 0, resources: Resources = NOTHING_ASKED) -> Job:
    """Record a fine-tune; its ticket is the job's id."""
    finetune_id, pipe = new_id(), transaction(redis)
    job = JobStore(redis).create(pipe, kind=JobKind.FINETUNE, name="FT_x", subject=finetune_id)
    record = Finetune(
        id=finetune_id, name="t", model_id="a/b", dataset_id=new_id(), adapter_id="t", job_id=job.id,
        hyperparameters=Hyperparameters(), priority=priority, created_at=now(), resources=resources,
    )  # fmt: skip
    FinetuneStore(redis).put(pipe, record)
    pipe.execute()
    return job


def turn(redis: Redis, ticket: Job, *, has_a_cluster: bool = False) -> str | None:
    return take_turn(JobStore(redis), FinetuneStore(redis), ticket.id, has_a_cluster=has_a_cluster)


def test_the_first_in_turn_is_begun_whatever_ticket_is_drawn(redis: Redis) -> None:
    jobs = JobStore(redis)
    old, new, urgent = begin(redis), begin(redis), begin(redis, priority=5)
    assert turn(redis, old) == urgent.id
    assert waiting(redis, TRAINING) == {old.id}  # its own turn comes
    jobs.claim(urgent.id, "me")
    assert turn(redis, urgent) == urgent.id  # a ticket too many: to claim it is refused
    assert turn(redis, new) == old.id
    jobs.claim(old.id, "me")
    assert turn(redis, new) == new.id


def test_another_attempt_at_what_has_begun_waits_for_nobody(redis: Redis) -> None:
    jobs = JobStore(redis)
    begun = begin(redis)
    jobs.release(begun.id, jobs.claim(begun.id, "me"), "waiting")
    begin(redis, priority=100)
    assert turn(redis, begun) == begun.id
    assert jobs.get(begun.id).status is JobStatus.RUNNING


def test_a_run_for_a_cluster_waits_for_a_worker_that_has_one_and_holds_up_nobody_else(redis: Redis) -> None:
    wide, plain = begin(redis, priority=5, resources=ON_TWO), begin(redis)
    assert turn(redis, plain) == plain.id  # though the other is first in turn
    assert turn(redis, plain, has_a_cluster=True) == wide.id
    assert waiting(redis, TRAINING) == {plain.id}
    begin(redis, priority=9)
    assert turn(redis, wide, has_a_cluster=True) not in (wide.id, plain.id)
    assert waiting(redis, TRAINING_ON_A_CLUSTER) == {wide.id}


@pytest.mark.parametrize("begun", [False, True])
def test_one_that_an_older_version_queued_for_every_worker_is_passed_on(redis: Redis, begun: bool) -> None:
    jobs, wide = JobStore(redis), begin(redis, resources=ON_TWO)
    if begun:
        jobs.release(wide.id, jobs.claim(wide.id, "me"), "waiting")
    assert turn(redis, wide) is None
    assert waiting(redis, TRAINING_ON_A_CLUSTER) == {wide.id}
    assert turn(redis, wide, has_a_cluster=True) == wide.id


def test_a_ticket_whose_job_is_gone_is_left_to_the_claim(redis: Redis) -> None:
    assert take_turn(JobStore(redis), FinetuneStore(redis), "gone", has_a_cluster=False) == "gone"


@pytest.mark.parametrize(
    ("batch", "passes", "gpus", "processes"),
    [
        (8, None, 0, 1),
        (8, None, 1, 1),
        (8, None, 4, 4),
        (8, None, 3, 2),
        (8, 4, 4, 2),
        (7, None, 8, 7),
        (1, None, 8, 1),
    ],
)
def test_as_many_processes_as_gpus_and_as_the_batch_allows(
    batch: int, passes: int | None, gpus: int, processes: int
) -> None:
    settings = Hyperparameters(batch_size=batch, gradient_accumulation_steps=passes)
    assert settings.processes(gpus) == processes


def test_several_processes_are_started_by_torchrun() -> None:
    python, spec = Path("/env/bin/python"), Path("/run.json")
    assert trainer_command(python, spec, 1) == ["/env/bin/python", "-m", "hearth_trainer", "/run.json"]
    assert trainer_command(python, spec, 2) == [
        "/env/bin/python", "-m", "hearth_trainer.together", "2", "/run.json",
    ]  # fmt: skip


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,2", 2)])
def test_only_the_gpus_it_may_use_count(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_here() == count


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    assert gpus_here() == 0
