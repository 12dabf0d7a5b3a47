"""`python -m hearth_trainer.on_ray ADDRESS RUN.json`: as `python -m hearth_trainer RUN.json`, on a Ray cluster.

The driver of a Ray job: it has the cluster train, and keeps on this machine's disk, and tells on standard output, what
the trainer does here. With it goes all that it started there: Ray ends a job whose driver is gone.
"""

import os
import signal
import sys
from pathlib import Path

import ray
from hearth_contracts.finetune import RefusedEvent, RunSpec, StageEvent

from hearth_trainer.events import EventStream
from hearth_trainer.on_ray.driver import Driver

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""What the trainer sets for itself, for processes that Ray starts."""

NO_CLUSTER = "no Ray cluster answers at {}, or this machine is no node of it: run `ray start` here, and resume"


def main(address: str, path: Path) -> int:
    """Run; the exit code is the trainer's own."""
    events = EventStream()
    spec = RunSpec.model_validate_json(path.read_text(encoding="utf-8"))
    events.say(StageEvent(stage="joining the Ray cluster"))
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # the lines of its processes go to the job's log
    try:
        ray.init(address, runtime_env={"env_vars": ENVIRONMENT}, logging_level="warning")
    except ConnectionError as error:
        events.say(RefusedEvent(reason=f"{NO_CLUSTER.format(address)} ({str(error).splitlines()[0]})"))
        return 0
    driver = Driver(spec, events)
    signal.signal(signal.SIGTERM, driver.stop)
    return driver.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
