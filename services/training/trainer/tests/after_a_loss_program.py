"""How many workers go on after a loss, of 8 or of 4 that were, where there is room for as many as is said.

In the environment with Ray.
"""

import sys

from hearth_contracts.finetune import RunSpec
from hearth_trainer.on_ray.driver import after_a_loss

spec = RunSpec.model_validate_json(sys.argv[1])
for workers, room in ((8, 9), (8, 7), (8, 1), (8, 0), (4, 0)):
    print(after_a_loss(spec, workers, room))
