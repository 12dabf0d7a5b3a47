"""Loads the base of RUN.json with its adapter, in each of several processes, and prints what each holds of it.

In the training environment, under torchrun.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from hearth_contracts.finetune import RunSpec
from hearth_trainer.model import load_adapted
from peft import get_peft_model_state_dict
from torch.distributed.tensor import DTensor

gathered = 0
full_tensor = DTensor.full_tensor


def counting(tensor: DTensor, **options: Any) -> Any:
    """`DTensor.full_tensor`, counted."""
    global gathered
    gathered += 1
    return full_tensor(tensor, **options)


def numbers(parameters: list[Any]) -> int:
    return sum((each.to_local() if isinstance(each, DTensor) else each).numel() for each in parameters)


DTensor.full_tensor = counting  # type: ignore[method-assign]
dist.init_process_group("gloo")
model = load_adapted(RunSpec.model_validate_json(Path(sys.argv[1]).read_text()))
get_peft_model_state_dict(model, save_embedding_layers=False)
mine = {
    "base": numbers([each for each in model.parameters() if not each.requires_grad]),
    "adapter": numbers([each for each in model.parameters() if each.requires_grad]),
    "gathered": gathered,
}
os.write(1, f"{json.dumps(mine)}\n".encode())  # a line at once: they share their standard output
dist.destroy_process_group()
