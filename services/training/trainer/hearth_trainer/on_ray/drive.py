"""A run's driver, from the knock at the cluster's door to the end of the run."""

import os
import signal
import socket
import time
import traceback
from pathlib import Path

from hearth_contracts.finetune import RefusedEvent, RunSpec, StageEvent

from hearth_trainer.events import EventStream

EACH_PROCESS = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""What the trainer sets for itself, for the processes that Ray starts."""
DRIVER = {
    "RAY_COLOR_PREFIX": "0",  # what they print goes to the job's log
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a node that is taken away is a node that is lost
}
NO_CLUSTER = "no Ray cluster answers at {}, or this machine is no node of it: run `ray start` here, and resume"

LOST = 1
"""The exit code where the cluster is gone: Ray's own, when its head has not answered for a minute."""
FAILED = 3
"""The exit code of a run that failed."""
STOPPED = 128 + signal.SIGTERM
"""The exit code of a run that was asked to stop and has saved a checkpoint, if there was anything to save."""

KNOCK_SECONDS = 15.0
KNOCK_AGAIN_SECONDS = 2.0


def drive(events: EventStream, address: str, path: Path, patience: float, gpus: int | None) -> int:
    """Join the cluster and have the run done there; the exit code is the trainer's own, FAILED, or LOST."""
    spec = RunSpec.model_validate_json(path.read_text(encoding="utf-8"))
    if spec.resources.gpus_per_worker is None:
        spec = spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus_per_worker": gpus})})
    events.say(StageEvent(stage="joining the Ray cluster"))
    os.environ.update(DRIVER)
    began = time.monotonic()
    while (error := _join(address)) is not None:
        if time.monotonic() > began + patience:
            events.say(RefusedEvent(reason=f"{NO_CLUSTER.format(address)} ({str(error).splitlines()[0]})"))
            return 0
        events.say(StageEvent(stage="waiting for the Ray cluster"))
        time.sleep(KNOCK_AGAIN_SECONDS)
    from ray.exceptions import RayActorError, RaySystemError

    from hearth_trainer.on_ray.driver import Driver

    driver = Driver(spec, events)
    signal.signal(signal.SIGTERM, driver.stop)
    try:
        return driver.run()
    except (RayActorError, RaySystemError):  # what led the run on the cluster is gone, or Ray itself
        traceback.print_exc()
        return LOST
    except Exception:
        traceback.print_exc()
        return FAILED


def _join(address: str) -> OSError | None:
    """Become a driver of the cluster's; what stands in the way, if anything does."""
    import ray  # seconds of imports: after the word that they have begun

    try:
        if address != "auto":
            _knock(address)  # Ray itself would try for minutes
        ray.init(address, runtime_env={"env_vars": EACH_PROCESS}, logging_level="warning")
    except OSError as error:  # ConnectionError, of both
        return error
    return None


def _knock(address: str) -> None:
    """Raise OSError where nobody listens."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), KNOCK_SECONDS).close()
