"""What a trainer says, put where it can be read: the job's progress, the curve, the checkpoints."""

import contextlib

from hearth_contracts.base import now
from hearth_contracts.finetune import (
    CheckpointEvent,
    DoneEvent,
    EvalEvent,
    Metric,
    RefusedEvent,
    ResumedEvent,
    StepEvent,
    TrainerEvent,
)
from hearth_jobs.attempt import Attempt, WorkFailed
from hearth_jobs.finetunes import FinetuneStore
from hearth_telemetry import traces
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hearth_training.keeper import CheckpointKeeper

TRAINING_SHARE = 0.95
"""The part of a job's progress that its steps make; the rest is fetching and storing."""


class Follower:
    """Takes a run's events one by one. Redis being away loses points of the curve, and does not stop the run."""

    def __init__(self, attempt: Attempt, finetunes: FinetuneStore, finetune_id: str, keeper: CheckpointKeeper) -> None:
        self.done: DoneEvent | None = None
        self._attempt = attempt
        self._finetunes = finetunes
        self._finetune_id = finetune_id
        self._keeper = keeper
        self._latest: Metric | None = None

    def take(self, event: TrainerEvent) -> None:
        """Pass one event on. Raises WorkFailed for a refusal."""
        match event:
            case StepEvent():
                self._step(event)
            case EvalEvent():
                if self._latest is not None:
                    self._record(self._latest.model_copy(update={"eval_loss": event.eval_loss}))
            case CheckpointEvent():
                traces.event("checkpoint", {"step": event.step})
                self._keeper.saved(event.step)
            case ResumedEvent():
                self._resumed(event.step)
            case RefusedEvent():
                raise WorkFailed(event.reason)
            case DoneEvent():
                self.done = event
                if event.stopped_early:
                    self._attempt.log(f"ended early after step {event.steps}: eval_loss was no better any more")
            case _:
                traces.event("stage", {"stage": event.stage})
                self._attempt.report(stage=event.stage)

    def _step(self, event: StepEvent) -> None:
        loss = "" if event.loss is None else f", loss {event.loss:.4g}"
        self._attempt.report(
            progress=TRAINING_SHARE * event.step / event.max_steps,
            stage=f"step {event.step}/{event.max_steps}{loss}",
            eta_seconds=event.eta_seconds,
        )
        self._record(Metric(**event.model_dump(exclude={"event"}), at=now()))

    def _resumed(self, step: int) -> None:
        traces.event("resumed", {"step": step})
        self._attempt.report(stage=f"resuming from step {step}")
        self._attempt.log(f"attempt {self._attempt.number} goes on from the checkpoint of step {step}")
        with contextlib.suppress(RedisConnectionError, RedisTimeoutError):  # what is void is overwritten step by step
            self._finetunes.void_points_after(self._finetune_id, step)
            told = max((point.step for point in self._finetunes.points(self._finetune_id)), default=0)
            for point in self._keeper.points(step):  # what a worker that died had no time to pass on
                if point.step > told:
                    self._record(point)

    def _record(self, point: Metric) -> None:
        try:
            self._finetunes.add_point(self._finetune_id, point, self._latest)
        except (RedisConnectionError, RedisTimeoutError):
            self._attempt.log(f"step {point.step} is missing in the curve: Redis is away")
        self._latest = point
