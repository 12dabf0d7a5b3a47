"""A model's parts on the CPUs of a Ray cluster's nodes.

vLLM has Ray say which GPU each part is to have. Of a CPU there is nothing to say, so the parts take a resource that
nodes are given by whoever starts them: `ray start --resources='{"vllm_cpu": 1}'` makes room for one part.
"""

import os
from typing import Any

import ray
import torch
from vllm.platforms.cpu import CpuPlatform
from vllm.v1.executor import ray_executor_v2

RESOURCE = "vllm_cpu"


class CpuWorker(ray_executor_v2.RayWorkerProc):  # type: ignore[misc]
    """The process of one part. Ray imports this module where it starts one."""

    def get_node_and_physical_gpu_ids(self) -> tuple[str, list[int]]:
        """The node that it is on, and a number in a GPU's place, which nothing on a CPU looks at."""
        return ray.get_runtime_context().get_node_id(), [0]

    def initialize_worker(self, *given: Any, assigned_physical_gpu_ids: list[int], **named: Any) -> None:
        """Take an equal share of this node's cores: Ray gives one to what asks for none, as vLLM's parts do."""
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // len(assigned_physical_gpu_ids)))  # one number for each part that is here
        super().initialize_worker(*given, assigned_physical_gpu_ids=assigned_physical_gpu_ids, **named)


def allow() -> None:
    """Let engines of this process have their parts on Ray. Safe to call again."""
    CpuPlatform.ray_device_key = RESOURCE
    ray_executor_v2.RayWorkerProc = CpuWorker
