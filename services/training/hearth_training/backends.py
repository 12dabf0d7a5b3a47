"""Where a run's trainer is: on this machine, or on a Ray cluster. Either way a guarded process of the worker's own.

What that process is given (a RunSpec), what it says (events, line by line) and what it leaves in the run's folder
(checkpoints, the adapter) is the same for all, so that job, curve, S3, interrupt and resumption need not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hearth_contracts.finetune import RunSpec
from hearth_jobs.attempt import Attempt, WorkFailed

from hearth_training.command import gpus_here, ray_command, trainer_command, trainer_env
from hearth_training.config import TrainingSettings
from hearth_training.spare import take_spare


class Backend(Protocol):
    """One way to have a run done."""

    def lines(self, attempt: Attempt, spec: RunSpec, spec_path: Path) -> Iterator[str]:
        """Begin the run that `spec_path` holds, and give what it says, each line an event.

        An interrupt lets it save a checkpoint, and leaves nothing of it. Raises WorkFailed when it fails, or cannot be
        done here as it is asked for; and what ends the attempt.
        """


@dataclass(frozen=True)
class Local:
    """On this machine: one process, or one for each GPU; a trainer that stands by is taken where there is one."""

    settings: TrainingSettings

    def lines(self, attempt: Attempt, spec: RunSpec, spec_path: Path) -> Iterator[str]:
        """See Backend."""
        if spec.resources.need_a_cluster:  # no such run is queued for this worker
            raise WorkFailed(
                "resources are for a Ray cluster, and this training worker trains on its own machine, on all of its "
                "GPUs: leave them out, or set HEARTH_TRAINING_EXECUTOR=ray"
            )
        processes = spec.hyperparameters.processes(gpus_here())
        spare = take_spare() if processes == 1 else None
        ready = spare.send(spec_path, attempt.log_path) if spare is not None else None
        attempt.report(stage="starting the trainer")
        if ready is not None:
            return attempt.follow(ready, self.settings.trainer_grace)
        command = trainer_command(self.settings.trainer_python.absolute(), spec_path, processes)
        return attempt.lines(command, env=trainer_env(), grace=self.settings.trainer_grace, cwd=spec_path.parent)


@dataclass(frozen=True)
class Ray:
    """On a cluster of which this machine is a node. Its process here is a Ray job's driver; with it the job ends."""

    settings: TrainingSettings

    def lines(self, attempt: Attempt, spec: RunSpec, spec_path: Path) -> Iterator[str]:
        """See Backend."""
        attempt.report(stage="starting the trainer")
        command = ray_command(self.settings, spec_path)
        return attempt.lines(command, env=trainer_env(), grace=self.settings.trainer_grace, cwd=spec_path.parent)


def backend_for(settings: TrainingSettings) -> Backend:
    """The one that this worker is set to."""
    return Ray(settings) if settings.training_executor == "ray" else Local(settings)
