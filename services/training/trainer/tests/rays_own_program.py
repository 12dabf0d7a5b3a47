"""Of which errors of a driver something is gone that it needs, and of which its run has failed.

In the environment with Ray.
"""

from hearth_trainer.on_ray.drive import _is_rays_own
from ray import exceptions
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError


def raised_in_a_task(cause: Exception) -> Exception:
    error = exceptions.RayTaskError("work", "a traceback", cause)
    found: Exception = error.as_instanceof_cause()
    return found


gone: list[Exception] = [
    exceptions.LocalRayletDiedError(),
    exceptions.ActorDiedError(),
    exceptions.ActorUnavailableError("no answer", None),
    exceptions.ActorUnschedulableError("its node is dead"),
    exceptions.TaskUnschedulableError("its node is dead"),
    exceptions.NodeDiedError("dead"),
    exceptions.OwnerDiedError("00", None, ""),
    exceptions.RpcError("no answer"),
    exceptions.RaySystemError(OSError("no answer")),
]
its_own: list[Exception] = [ValueError("ours"), TrainingFailedError("ours"), WorkerGroupError("theirs", {})]
print([_is_rays_own(each) for each in [*gone, *map(raised_in_a_task, gone), *map(ControllerError, gone)]])
print([_is_rays_own(each) for each in [*its_own, raised_in_a_task(its_own[0]), *map(ControllerError, its_own)]])
