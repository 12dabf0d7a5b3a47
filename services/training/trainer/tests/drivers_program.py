"""Two drivers of a run on Ray, one after the other, and between them somebody asks to stop: how each has ended.

In the training environment.
"""

import os
import signal
import time

from hearth_trainer.on_ray.__main__ import Drivers


def work() -> int:
    time.sleep(60)
    return 0


drivers = Drivers()
print(drivers.run(lambda: 4), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print(drivers.run(work), flush=True)
