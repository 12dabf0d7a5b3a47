"""What comes of drivers that end in several ways: the exit code, and how many there were.

In the training environment.
"""

import os
import signal
from mmap import mmap
from pathlib import Path

from hearth_trainer.on_ray import __main__ as on_ray
from hearth_trainer.on_ray.drive import FAILED, LOST

BY_RAY, ABORTED = 1, 128 + signal.SIGABRT


def told(endings: list[tuple[bool, int]], patience: float) -> str:
    """`endings`: whether each driver had joined the cluster, and how it ended; the last one is all that follow."""
    begun = mmap(-1, 1)  # shared with the drivers

    def drive(*arguments: object) -> int:
        joined = arguments[-1]
        assert isinstance(joined, mmap)
        joined[0], code = endings[min(begun[0], len(endings) - 1)]
        begun[0] += 1
        if code == ABORTED:
            os.abort()
        os._exit(code)

    on_ray.drive = drive
    on_ray.KNOCK_AGAIN_SECONDS = 0
    code = on_ray.main("there:6379", Path("run.json"), patience, None)
    return f"{code} after {begun[0]}"


found = [
    told([(True, FAILED)], 60),
    told([(True, 0)], 60),
    told([(True, LOST), (True, ABORTED), (True, BY_RAY), (True, 0)], 60),
    told([(True, LOST)], 60),
    told([(True, LOST), *[(False, BY_RAY)] * 6, (True, 0)], 60),
    told([(False, BY_RAY)], -1),
]
Path(os.environ["FOUND"]).write_text("\n".join(found))
