"""`python -m hearth_trainer RUN.json`: train as the file says, telling how it goes on standard output.

`python -m hearth_trainer --wait PIPE` loads the libraries first and then waits for a line on a named pipe: a JSON
object with the run's file (`spec`) and where standard error is to go (`log`).
"""

import json
import os
import sys
from pathlib import Path

from hearth_contracts.finetune import RunSpec, StageEvent

from hearth_trainer.events import EventStream


def main(arguments: list[str]) -> int:
    """Run; exit code 0 (done, or refused with an event), 143 (stopped, checkpoint saved), else a failure."""
    events = EventStream()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1")
    # Idle OpenMP threads spin by default; beside a busy engine that made a tiny run 35 times slower (89 s, not 2.6 s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if arguments[0] == "--wait":
        return _wait(Path(arguments[1]), events)
    spec = RunSpec.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    events.say(StageEvent(stage="loading libraries"))
    from hearth_trainer.run import run  # seconds of imports: after the word that they have begun

    return run(spec, events)


def _wait(pipe: Path, events: EventStream) -> int:
    """Load the libraries, wait for the word, and run; 0 when whoever would give it has gone."""
    with pipe.open(encoding="utf-8") as orders:
        pipe.unlink()
        from hearth_trainer.run import run

        line = orders.readline()
    if not line:
        return 0
    order = json.loads(line)
    spec = RunSpec.model_validate_json(Path(order["spec"]).read_text(encoding="utf-8"))
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    os.chdir(spec.work_dir)
    return run(spec, events)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
