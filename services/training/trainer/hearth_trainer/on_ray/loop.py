"""What each process of a run does on a Ray node: the same run as on one machine, in a folder of its own."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from hearth_contracts.finetune import CheckpointEvent, DoneEvent, RunSpec, StageEvent, TrainerEvent
from ray.train.collective import barrier

from hearth_trainer.on_ray.cargo import Cargo, unload
from hearth_trainer.on_ray.desk import Piece, Said, pieces
from hearth_trainer.refusal import Refused


@dataclass(frozen=True)
class Order:
    """What the driver sends along."""

    spec: RunSpec  # its paths are the driver's; the model's is the same on all nodes
    cargo: Cargo
    desk: Any


def loop(order: Order) -> None:
    """Train on this node. Ray Train has told the processes of one another by torch's own means."""
    context = ray.train.get_context()
    name = f"hearth-{Path(order.spec.work_dir).name}-{context.get_node_rank()}"
    folder = Path(tempfile.gettempdir()) / name  # the processes of one node share it, as they would without Ray
    if context.get_local_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)  # as one that was killed may have left it
        unload(order.cargo, folder)
    barrier()
    try:
        _train(order, folder)
        barrier()
    finally:
        if context.get_local_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _train(order: Order, folder: Path) -> None:
    owner = DeskOwner(order.desk, folder)
    if not Path(order.spec.model_path).is_dir():
        raise Refused(
            f"the Ray node {ray.util.get_node_ip_address()} has no {order.spec.model_path}: every node of the cluster "
            "needs the model store, at the path that it has on the training worker's machine"
        )
    owner.say(StageEvent(stage="loading libraries"))
    from hearth_trainer.run import run  # what it imports reads the environment that Ray Train has set

    run(in_folder(order.spec, folder), owner)


def in_folder(spec: RunSpec, folder: Path) -> RunSpec:
    """The same run with its files in another folder."""
    validation = spec.validation_path
    return spec.model_copy(
        update={
            "data_path": str(folder / Path(spec.data_path).name),
            "validation_path": validation and str(folder / Path(validation).name),
            "work_dir": str(folder),
            "output_dir": str(folder / Path(spec.output_dir).name),
        }
    )


class DeskOwner:
    """A run's owner (`hearth_trainer.events.Owner`) that is reached over the desk."""

    def __init__(self, desk: Any, folder: Path) -> None:
        self.asks_to_stop = False
        self._desk = desk
        self._folder = folder
        self._rank = os.environ["RANK"]

    def heed(self) -> None:
        """Listen to the desk."""
        threading.Thread(target=self._listen, name="asked-to-stop", daemon=True).start()

    def _listen(self) -> None:
        ray.get(self._desk.asked_to_stop.remote())
        self.asks_to_stop = True

    def say(self, event: TrainerEvent) -> None:
        """Tell an event, and before it send the files that it speaks of."""
        if isinstance(event, CheckpointEvent):
            folder = self._folder / "checkpoints" / f"checkpoint-{event.step}"
            self._send(path for path in folder.iterdir() if self._sends(path.name))
            barrier()
        if self._rank != "0":
            return
        if isinstance(event, DoneEvent):
            self._send((self._folder / "adapter").iterdir())
        kept = (path.name.partition("-")[2] for path in self._folder.glob("checkpoints/checkpoint-*"))
        ray.get(self._desk.tell.remote(Said(event, frozenset(map(int, kept)))))

    def _sends(self, name: str) -> bool:
        """Of a checkpoint: the first process all but where the others' random numbers are, each other one that."""
        return name == f"rng_state_{self._rank}.pth" if name.startswith("rng_state_") else self._rank == "0"

    def _send(self, paths: Iterable[Path]) -> None:
        for path in sorted(paths):
            for data in pieces(path):
                ray.get(self._desk.tell.remote(Piece(str(path.relative_to(self._folder)), data)))
