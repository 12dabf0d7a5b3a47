"""What a base is trained in, by its size and the machine."""

import json

from services.training.trainer.tests.conftest import in_training

PROGRAM = """
import json
from hearth_trainer.model import SMALL_MODEL_BYTES, training_dtype
large, small = SMALL_MODEL_BYTES, SMALL_MODEL_BYTES - 1
print("FOUND" + json.dumps([str(training_dtype(size, capability, gpu=gpu)) for size, capability, gpu in (
    (large, "AVX512", False), (small, "AVX512", False), (large, "AVX2", False), (large, "DEFAULT", False),
    (small, "AVX2", True),
)]))
"""


def test_bfloat16_is_used_only_where_it_is_multiplied_fast() -> None:
    found = json.loads(in_training("-c", PROGRAM).partition("FOUND")[2])
    assert found == ["torch.bfloat16", "torch.float32", "torch.float32", "torch.float32", "torch.bfloat16"]
