"""`python -m hearth_trainer.on_ray ADDRESS RUN.json PATIENCE [GPUS]`: as `python -m hearth_trainer RUN.json`, on Ray.

PATIENCE: seconds to wait for a cluster that does not answer. GPUS: how many each worker takes where the run does not
say; left out, 1 if the cluster has any.

The driver of a Ray job: it has the cluster train, and keeps on this machine's disk, and tells on standard output, what
the trainer does here. With it goes all that it started there: Ray ends a job whose driver is gone.
"""

import os
import signal
import socket
import sys
import time
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

KNOCK_SECONDS = 15.0
KNOCK_AGAIN_SECONDS = 2.0


def main(address: str, path: Path, patience: float, gpus: int | None) -> int:
    """Run; the exit code is the trainer's own."""
    events = EventStream()
    spec = RunSpec.model_validate_json(path.read_text(encoding="utf-8"))
    if spec.resources.gpus_per_worker is None:
        spec = spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus_per_worker": gpus})})
    events.say(StageEvent(stage="joining the Ray cluster"))
    os.environ.update(DRIVER)
    until = time.monotonic() + patience
    while (error := _join(address)) is not None:
        if time.monotonic() > until:
            events.say(RefusedEvent(reason=f"{NO_CLUSTER.format(address)} ({str(error).splitlines()[0]})"))
            return 0
        events.say(StageEvent(stage="waiting for the Ray cluster"))
        time.sleep(KNOCK_AGAIN_SECONDS)
    from hearth_trainer.on_ray.driver import Driver

    driver = Driver(spec, events)
    signal.signal(signal.SIGTERM, driver.stop)
    return driver.run()


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if sys.argv[4:] else None))
