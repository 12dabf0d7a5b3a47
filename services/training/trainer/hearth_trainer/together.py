"""`python -m hearth_trainer.together PROCESSES RUN.json`: the trainer on so many of this machine's GPUs, by torchrun.

It ends as they do. Where one of them was killed the others are ended, and its exit code says so, as it would of one.
"""

import signal
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

TORCHS_PATIENCE = 30
"""Seconds after which torchrun kills what did not end when it was told to, because another had failed."""


def main(processes: str, spec: str) -> int:
    """Run; the exit code is the trainer's own."""
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "hearth_trainer", spec]))
    except ChildFailedError as error:
        return code_of(error)
    return 0


def code_of(error: ChildFailedError) -> int:
    """The exit code of the process that was the first to fail. What torchrun killed afterwards is not asked."""
    failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
    codes = [each.exitcode for each in failures if each.timestamp < failures[0].timestamp + TORCHS_PATIENCE]
    if -signal.SIGKILL in codes:  # the others failed because it was gone
        return 128 + signal.SIGKILL
    return next((code for code in codes if code > 0), codes[0])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
