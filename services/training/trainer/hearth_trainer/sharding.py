"""A base that the processes of a run hold together, each a part: FSDP2, as transformers loads it.

Each process reads its part of the base alone, and has one layer whole for as long as it calculates with it. The
adapter is put on afterwards and is whole in every process, like its optimizer: checkpoints are as they are without.
"""

import os
from typing import Any

from hearth_contracts.finetune import RunSpec
from transformers import AutoModelForCausalLM
from transformers.distributed.configuration_utils import DistributedConfig

PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
"""How many processes, each with a GPU of its own, train together; torchrun or Ray says so."""


def is_sharded(spec: RunSpec) -> bool:
    """Whether there is somebody to share the base with, and it is to be shared."""
    return spec.resources.sharding == "full" and PROCESSES > 1


def load_base(spec: RunSpec, **options: Any) -> Any:
    """The base from the model store, or this process's part of it."""
    if is_sharded(spec):
        options["distributed_config"] = DistributedConfig(fsdp_size=PROCESSES)
    model = AutoModelForCausalLM.from_pretrained(
        spec.model_path, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
    )
    if is_sharded(spec):
        # It is 1, which PEFT takes for tensor parallelism: each checkpoint would gather the whole base everywhere.
        model._tp_size = None
    return model
