"""One run on a cluster: begun with as many processes as are asked for, and begun again when one of them is lost."""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import ray
from hearth_contracts.finetune import RefusedEvent, RunSpec, StageEvent
from ray.exceptions import RayError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import RayTrainError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hearth_trainer.checkpoints import newest_valid
from hearth_trainer.events import EventStream
from hearth_trainer.on_ray.cargo import Cargo, load
from hearth_trainer.on_ray.desk import Desk
from hearth_trainer.on_ray.drive import STOPPED
from hearth_trainer.on_ray.loop import Order, loop
from hearth_trainer.on_ray.nodes import room
from hearth_trainer.on_ray.relay import Relay
from hearth_trainer.refusal import Refused

RAYS_OWN = (RayError, RayTrainError)
"""A process that died, that cannot be reached, or that did not answer in time."""
MOST_LOSSES = 3
"""So many times a driver begins its run again; each time it may have got further."""


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray Train's, without an actor that looks to it that the run's place is given back when its controller dies.

    Ours goes with the driver, and its place with it; that actor would not, where the cluster has no dashboard to ask.
    """

    def _create_default_callbacks(self) -> list[Any]:
        made = super()._create_default_callbacks()
        return [each for each in made if not isinstance(each, PlacementGroupCleanerCallback)]


class Driver:
    """Has one run done; what it tells and what it leaves on this disk is what the trainer tells and leaves here."""

    def __init__(self, spec: RunSpec, events: EventStream) -> None:
        self._spec = spec
        self._scratch = Path(spec.work_dir) / "from-ray"
        # Its processes on the cluster write there too, where the run's folder is none of theirs.
        self._rays_own = Path(tempfile.gettempdir()) / f"hearth-{Path(spec.work_dir).name}-ray"
        self._events = events
        self._each = _each_has(spec)
        self._relay: Relay | None = None
        self._desk: Any = None
        self._asked_to_stop = threading.Event()
        threading.Thread(target=self._pass_on_stop, name="stop", daemon=True).start()

    def stop(self, *_: object) -> None:
        """SIGTERM: end at once while there is nothing that could be saved, else once it is saved."""
        if self._relay is None or not self._relay.has_stopping_point:
            raise SystemExit(STOPPED)
        self._asked_to_stop.set()

    def _pass_on_stop(self) -> None:
        self._asked_to_stop.wait()
        ray.get(self._desk.stop.remote())

    def run(self) -> int:
        """Returns the trainer's exit code: 0 also for a refusal, which is told as an event."""
        workers, losses = self._spec.resources.workers, 0
        folder = Path(self._spec.work_dir)
        rows = load(folder, map(Path, filter(None, (self._spec.data_path, self._spec.validation_path))))
        while True:
            try:
                self._fit(workers, rows | _checkpoints(folder / "checkpoints"))
                return STOPPED if self._asked_to_stop.is_set() else 0
            except WorkerGroupError as error:
                failures = list(error.worker_failures.values())
                if refusals := [str(each) for each in failures if isinstance(each, Refused)]:
                    self._events.say(RefusedEvent(reason=refusals[0]))
                    return 0
                # Where all raised errors of their own it is the training that failed; of what is lost Ray tells.
                was_lost = len(failures) < workers or any(isinstance(each, RAYS_OWN) for each in failures)
                if self._asked_to_stop.is_set() or not was_lost or losses == MOST_LOSSES:
                    raise
                losses += 1
                workers = after_a_loss(self._spec, workers, room(self._each))
                self._events.say(StageEvent(stage=f"a worker was lost; going on with {workers}"))

    def _fit(self, workers: int, cargo: Cargo) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk = Desk.options(scheduling_strategy=here).remote()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._relay = relay = Relay(self._spec, self._events, self._desk, self._scratch / "arriving")
        self._events.say(StageEvent(stage=f"waiting for Ray to have room for {workers} workers"))
        trainer = _Trainer(
            loop,
            train_loop_config=Order(self._spec, cargo, self._desk),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=self._each.get("GPU", 0) > 0,
                resources_per_worker=self._each,
                placement_strategy="SPREAD",
            ),
            run_config=RunConfig(
                storage_path=str(self._rays_own),
                failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),  # beginning again is ours
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        try:
            trainer.fit()
        finally:
            relay.close()
            ray.kill(self._desk)
            for folder in (self._scratch, self._rays_own):
                shutil.rmtree(folder, ignore_errors=True)


def after_a_loss(spec: RunSpec, workers: int, room: int) -> int:
    """How many go on, of `workers` that were, where the nodes that are left have room for so many.

    Where they have none, all of them: some node must begin anew, or be added, before any can go on; Ray waits for it.
    """
    return spec.hyperparameters.processes(min(spec.resources.workers, room)) if room else workers


def _each_has(spec: RunSpec) -> dict[str, float]:
    """What each process takes, in Ray's words."""
    gpus = spec.resources.gpus_per_worker
    if gpus is None:
        gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
    return {"CPU": spec.resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})


def _checkpoints(folder: Path) -> Cargo:
    """What a run goes on from, with the best one for a run that may stop early."""
    newest_valid(folder)  # what is broken is no longer there
    return load(folder.parent, (path for path in folder.glob("checkpoint-*/*") if path.is_file()))
