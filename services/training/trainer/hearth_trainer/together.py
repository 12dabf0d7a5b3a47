"""`python -m hearth_trainer.together PROCESSES RUN.json`: the trainer on so many of this machine's GPUs, by torchrun.

It ends as they do. Where one of them was killed the others are ended, and its exit code says so, as it would of one.
"""

import signal
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main(processes: str, spec: str) -> int:
    """Run; the exit code is the trainer's own."""
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", "hearth_trainer", spec]))
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        if -signal.SIGKILL in codes:  # the others failed because it was gone
            return 128 + signal.SIGKILL
        return codes[0]
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
