"""`python -m hearth_trainer RUN.json`: train as the file says, telling how it goes on standard output."""

import os
import sys
from pathlib import Path

from hearth_contracts.finetune import RunSpec, StageEvent

from hearth_trainer.events import EventStream


def main() -> int:
    """Run; exit code 0 (done, or refused with an event), 143 (stopped, checkpoint saved), else a failure."""
    spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    events = EventStream()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1")
    # Idle OpenMP threads spin by default; beside a busy engine that made a tiny run 35 times slower (89 s, not 2.6 s).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    events.say(StageEvent(stage="loading libraries"))
    from hearth_trainer.run import run  # seconds of imports: after the word that they have begun

    return run(spec, events)


if __name__ == "__main__":
    sys.exit(main())
