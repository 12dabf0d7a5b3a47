"""The states that a job can be in when the fault comes: how each is reached, and how it is left in the end."""

from collections.abc import Callable
from dataclasses import dataclass

from hearth_contracts.jobs import Job

from tests.chaos.faults import FREEZE, FULL, KILL, OUTAGE, STOP, Fault
from tests.chaos.world import BASE, OTHER_BASE, World

CONTROL = ("gateway", "management", "valkey", "s3")
DISK = ("disk", FULL)
TRAINING_STEPS = 240


@dataclass(frozen=True)
class State:
    """`reach` returns the job; `leave` returns once everything is well again."""

    name: str
    reach: Callable[[World], str]
    leave: Callable[[World, str], object]
    hits: tuple[tuple[str, Fault], ...]
    weight: int = 1
    load: bool = False  # requests are sent all the while


def _all(names: tuple[str, ...], *faults: Fault) -> tuple[tuple[str, Fault], ...]:
    return tuple((name, fault) for name in names for fault in faults)


def _parts(worker: str) -> tuple[str, ...]:
    return (worker, f"{worker} horse", f"{worker} guard", f"{worker} work")


def _finish(world: World, job_id: str) -> object:
    return world.await_over(job_id)


def _finish_download(world: World, job_id: str) -> object:
    world.await_over(job_id)
    return world.forget_heavy_models()


def _queued(world: World) -> str:
    world.add_heavy_model()
    return world.add_heavy_model()  # behind the one before it


def _downloading(world: World) -> str:
    job_id = world.add_heavy_model()
    world.await_stage(job_id, lambda job: job.progress > 0.05)
    return job_id


def _training(reached: Callable[[Job], bool], steps: int = TRAINING_STEPS) -> Callable[[World], str]:
    def reach(world: World) -> str:
        job_id = world.begin_training(steps)
        world.await_stage(job_id, reached)
        return job_id

    return reach


def _interrupting(begin: Callable[[World], str]) -> Callable[[World], str]:
    def reach(world: World) -> str:
        job_id = begin(world)
        world.call("POST", f"jobs/{job_id}/interrupt/")
        return job_id

    return reach


def _must_be_killed(world: World, job_id: str) -> object:
    job = world.await_over(job_id)
    assert job["status"] in ("KILLED", "FINISHED", "FAILED"), job
    return job


def serving_job(world: World) -> str:
    """Something serves; its job."""
    state = world.deploy_state()
    if state is None or state["state"] == "FAILED" or state["job"]["status"] not in ("CREATED", "RUNNING"):
        job_id = world.deploy(BASE, world.adapter())
    else:
        job_id = state["job"]["id"]
    world.await_serving(job_id)
    return job_id


def _loading(world: World) -> str:
    if world.deploy_state() is not None:
        world.call("POST", "deploy/interrupt/")
    job_id = world.deploy(BASE, world.adapter())
    world.await_stage(job_id, lambda job: job.progress >= 0.1)
    return job_id


def swap_adapters(world: World) -> str:
    """Ask for the adapter that is not deployed on the base that is, or for none. Returns the job."""
    state = world.call("GET", "deploy/status/")
    wanted = [] if state["adapter_ids"] or state["model_id"] != BASE else [world.adapter()]
    return world.deploy(state["model_id"], *wanted)


def _swapping_adapters(world: World) -> str:
    serving_job(world)
    return swap_adapters(world)


def swap_base(world: World) -> str:
    """Ask for the base that is not deployed. Returns the job."""
    state = world.call("GET", "deploy/status/")
    return world.deploy(OTHER_BASE if state["model_id"] == BASE else BASE)


def _swapping_base(world: World) -> str:
    serving_job(world)
    job_id = swap_base(world)
    world.await_stage(job_id, lambda job: job.progress >= 0.1)
    return job_id


def _serves(world: World, job_id: str) -> object:
    return world.await_serving(job_id)


_STORES = (*_all(("valkey", "s3"), OUTAGE, STOP), DISK)
_DOWNLOAD = (
    *_all((*_parts("downloads"), *CONTROL), KILL),
    *_all(("downloads horse", "management", "gateway"), FREEZE),
    *_STORES,
)
_TRAIN = (
    *_all((*_parts("training"), *CONTROL), KILL),
    *_all(("training", "training horse", "training guard", "training work"), FREEZE),
    *_STORES,
)
_SERVE = (
    *_all((*_parts("inference-llm"), "engine core", *CONTROL), KILL),
    *_all(("inference-llm work", "engine core", "inference-llm horse", "management", "gateway"), FREEZE),
    *_STORES,
)


def _has_begun(job: Job) -> bool:
    return job.stage.startswith("step")


STATES = (
    State("queued", _queued, _finish_download, (*_all(("downloads", "downloads horse", *CONTROL), KILL), *_STORES), 4),
    State("downloading", _downloading, _finish_download, _DOWNLOAD, 6),
    State("training, no checkpoint", _training(_has_begun), _finish, _TRAIN, 4),
    State("training, checkpoint", _training(lambda job: job.progress > 0.2), _finish, _TRAIN, 4),
    State("storing the adapter", _training(lambda job: job.progress >= 0.94, 60), _finish,
          (*_all(("training", "training horse", *CONTROL), KILL), *_STORES), 4),
    State("interrupting a download", _interrupting(_downloading), _must_be_killed, _DOWNLOAD, 3),
    State("interrupting a training", _interrupting(_training(_has_begun)), _must_be_killed, _TRAIN, 3),
    State("serving under load", serving_job, _serves, _SERVE, 4, load=True),
    State("engine loading", _loading, _serves, _SERVE, 2),
    State("swapping adapters", _swapping_adapters, _serves, _SERVE, 4, load=True),
    State("swapping base", _swapping_base, _serves, _SERVE, 2, load=True),
)  # fmt: skip
