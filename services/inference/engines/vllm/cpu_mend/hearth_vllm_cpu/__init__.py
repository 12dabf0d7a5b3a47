"""What is mended in vLLM for the CPU, in each of its processes.

LoRA: a row of a batch without an adapter has the index -1. vLLM's kernels for GPUs pass such rows over; what it has for
the CPU takes -1 as an index like others, which is the last slot's adapter (vllm-project/vllm#48421, open as of 0.32.0).
Here those rows are zero before an adapter's matrices see them, and so add nothing.

AMX: Linux gives a process the tile registers when it asks for them (arch_prctl, ARCH_REQ_XCOMP_PERM), and kills one
that uses them without (SIGILL). vLLM's attention uses them on each processor that has them, and asks nowhere.

Waiting: the engine's processes wait for each other's messages by sched_yield() in a loop, a second long after each. It
takes a core from those that compute, and a Linux whose scheduler treats it badly (6.18) lets nothing else run on that
core: an engine that started beside one under load did not load its model in eight minutes. Here they sleep in between.

Pipelines: a stage copies what the stage before it sends to a place that vLLM makes when it warms up, which it does not
do on a CPU where nothing is compiled; the first request ended the engine.

Ray: vLLM lets a model's parts compute on a Ray cluster's GPUs alone. Where an engine is given a cluster, `on_ray` lets
them compute on its CPUs.
"""

import os
import time
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

OPERATIONS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
"""Of vllm.lora.ops.torch_ops; the sgmv_ ones call these."""
NAP_SECONDS = 1e-4
"""A token of the smallest model takes some 3 ms, in which two messages are waited for."""


def mend() -> None:
    """All that is mended. Safe to call again."""
    import torch

    torch.cpu._init_amx()  # False, and nothing else, on a processor without it
    mend_lora()
    mend_waiting()
    mend_pipelines()
    if os.environ.get("RAY_ADDRESS"):  # or each engine would import Ray
        from hearth_vllm_cpu import on_ray

        on_ray.allow()


def mend_lora() -> None:
    """Put the mended operations wherever vLLM has them by name."""
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for name in OPERATIONS:
        operation = getattr(lora_ops, name)
        if not hasattr(operation, "__wrapped__"):
            mended = without_base_rows(operation)
            for module in (lora_ops, torch_ops, punica_cpu):
                setattr(module, name, mended)


def mend_waiting() -> None:
    """Put a nap in the place of sched_yield() where a process waits for another's message."""
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = lambda: time.sleep(NAP_SECONDS)


def mend_pipelines() -> None:
    """Make the place for what a stage is sent when it is first needed, if no warm-up has made it."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner  # the CPU's is a subclass

    gather = GPUModelRunner.sync_and_gather_intermediate_tensors
    if not hasattr(gather, "__wrapped__"):
        GPUModelRunner.sync_and_gather_intermediate_tensors = with_place(gather)


def with_place(gather: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a model runner, with its `intermediate_tensors` there."""

    @wraps(gather)
    def mended(runner: Any, *given: Any, **named: Any) -> Any:
        if runner.intermediate_tensors is None:
            runner.intermediate_tensors = runner.model.make_empty_intermediate_tensors(
                batch_size=runner.max_num_tokens, dtype=runner.model_config.dtype, device=runner.device
            )
        return gather(runner, *given, **named)

    return mended


def without_base_rows(operation: Callable[..., None]) -> Callable[..., None]:
    """The operation, with the inputs of rows that have no adapter set to zero. `inputs` is (rows, features)."""

    @wraps(operation)
    def mended(
        inputs: "Tensor",
        weights: "Tensor",
        output_tensor: "Tensor",
        lora_indices_tensor: "Tensor",
        *rest: Any,
        **named: Any,
    ) -> None:
        has_adapter = (lora_indices_tensor >= 0).unsqueeze(1)
        operation(inputs * has_adapter, weights, output_tensor, lora_indices_tensor, *rest, **named)

    return mended
