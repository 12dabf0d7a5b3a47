"""A run's driver, from the knock at the cluster's door to the end of the run."""

import os
import signal
import socket
import sys
import time
import traceback
from mmap import mmap
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

REFUSED = (
    "the Ray cluster at {} refuses this worker: RAY_AUTH_TOKEN is not the token of its nodes, or is missing, or "
    "RAY_AUTH_MODE is not token; on Kubernetes both come from the chart's training.ray.tokenSecret"
)

FAILED = 3
"""The exit code of a run that failed."""
LOST = 4
"""The exit code where the cluster is gone, or the node of it that this machine is."""
STOPPED = 128 + signal.SIGTERM
"""The exit code of a run that was asked to stop and has saved a checkpoint, if there was anything to save."""

KNOCK_SECONDS = 15.0
KNOCK_AGAIN_SECONDS = 2.0


def drive(events: EventStream, address: str, path: Path, patience: float, gpus: int | None, joined: mmap) -> int:
    """Join the cluster, and have the run done there; the exit code is the trainer's own, FAILED, or LOST.

    The first byte of `joined` is 1 once it has joined.
    """
    try:
        return _drive(events, address, path, patience, gpus, joined)
    except Exception as error:
        if _is_refusal(error):
            events.say(RefusedEvent(reason=REFUSED.format(address)))
            return 0
        traceback.print_exc()
        return LOST if _is_rays_own(error) else FAILED


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the cluster asks for another token, which Ray says as an error of its own or in another one's words."""
    while error is not None and "ray.exceptions.AuthenticationError" not in f"{type(error)} {error}":
        error = error.__cause__
    return error is not None


def _is_rays_own(error: Exception) -> bool:
    """Whether it tells of something that is gone: a node, an actor, what one of them had. What code raised is none."""
    exceptions = sys.modules.get("ray.exceptions")
    if exceptions is None:
        return False
    error = getattr(error, "controller_failure", error)  # what Ray Train's controller could not go on with
    if isinstance(error, exceptions.RayTaskError):
        return isinstance(error.cause, exceptions.RayError)
    return isinstance(error, exceptions.RayError)


def _drive(events: EventStream, address: str, path: Path, patience: float, gpus: int | None, joined: mmap) -> int:
    spec = RunSpec.model_validate_json(path.read_text(encoding="utf-8"))
    if spec.resources.gpus_per_worker is None:
        spec = spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus_per_worker": gpus})})
    events.say(StageEvent(stage="joining the Ray cluster"))
    os.environ.update(DRIVER)
    began = time.monotonic()
    while (error := _join(address)) is not None:
        if _is_refusal(error):  # no waiting makes it another token
            raise error
        if time.monotonic() > began + patience:
            events.say(RefusedEvent(reason=f"{NO_CLUSTER.format(address)} ({str(error).splitlines()[0]})"))
            return 0
        events.say(StageEvent(stage="waiting for the Ray cluster"))
        time.sleep(KNOCK_AGAIN_SECONDS)
    joined[0] = 1
    from hearth_trainer.on_ray.driver import Driver

    driver = Driver(spec, events)
    signal.signal(signal.SIGTERM, driver.stop)
    return driver.run()


def _join(address: str) -> Exception | None:
    """Become a driver of the cluster's; what stands in the way, if anything does."""
    import ray  # seconds of imports: after the word that they have begun
    from ray.exceptions import AuthenticationError

    try:
        if address != "auto":
            _knock(address)  # Ray itself would try for minutes
        ray.init(address, runtime_env={"env_vars": EACH_PROCESS}, logging_level="warning")
    except (OSError, AuthenticationError) as error:  # ConnectionError, of both; no token at all
        return error
    return None


def _knock(address: str) -> None:
    """Raise OSError where nobody listens."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), KNOCK_SECONDS).close()
