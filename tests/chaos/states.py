"""The states that a job can be in when the fault comes: how each is reached, and how it is left in the end."""

from collections.abc import Callable
from dataclasses import dataclass

from hearth_contracts.jobs import Job

from tests.chaos.faults import FREEZE, FULL, HANG, KILL, OUTAGE, STOP, Fault
from tests.chaos.world import BASE, OTHER_BASE, World

CONTROL = ("gateway", "management", "valkey", "s3")
DISK = ("disk", FULL)
TRAINING_STEPS = 240


@dataclass(frozen=True)
class State:
    """`begin` returns a job that comes into the state; `leave` returns once it is over, or serves.

    With `works`, which says whether the job's work goes on, one job is hit several times: whenever it is in the state.
    """

    name: str
    begin: Callable[[World], str]
    reached: Callable[[Job], bool]
    leave: Callable[[World, str], object]
    hits: tuple[tuple[str, Fault], ...]
    weight: int = 1
    works: Callable[[Job], bool] | None = None
    load: bool = False  # requests are sent all the while


def _all(names: tuple[str, ...], *faults: Fault) -> tuple[tuple[str, Fault], ...]:
    return tuple((name, fault) for name in names for fault in faults)


def _parts(worker: str) -> tuple[str, ...]:
    return (worker, f"{worker} horse", f"{worker} guard", f"{worker} work")


def _over(world: World, job_id: str) -> object:
    return world.await_over(job_id)


def _downloaded(world: World, job_id: str) -> object:
    world.hub.bytes_per_second = None  # what is left of it comes at once
    world.await_over(job_id)
    return world.forget_heavy_models()


def _queued(world: World) -> str:
    world.add_heavy_model(seconds=4)
    return world.add_heavy_model(seconds=4)  # behind the one before it


def _downloading(world: World) -> str:
    return world.add_heavy_model(seconds=30)


def _training(world: World) -> str:
    return world.begin_training(TRAINING_STEPS)


def _short_training(world: World) -> str:
    return world.begin_training(40)


def _interrupting(begin: Callable[[World], str], reached: Callable[[Job], bool]) -> Callable[[World], str]:
    def interrupted(world: World) -> str:
        job_id = begin(world)
        world.await_stage(job_id, reached)
        world.call("POST", f"jobs/{job_id}/interrupt/")
        return job_id

    return interrupted


def serving_job(world: World) -> str:
    """Something serves; its job."""
    state = world.deploy_state()
    if (
        state is None
        or state["state"] in ("FAILED", "DRAINING")
        or state["job"]["status"] not in ("CREATED", "RUNNING")
    ):
        job_id = world.deploy(BASE, world.adapter())
    else:
        job_id = state["job"]["id"]
    world.await_serving(job_id)
    return job_id


def _deploying(world: World) -> str:
    if world.deploy_state() is not None:
        world.call("POST", "deploy/interrupt/")
    return world.deploy(BASE, world.adapter())


def swap_adapters(world: World) -> str:
    """Ask for the adapter that is not deployed on the base that is, or for none. Returns the job."""
    serving_job(world)
    state = world.call("GET", "deploy/status/")
    wanted = [] if state["adapter_ids"] or state["model_id"] != BASE else [world.adapter()]
    return world.deploy(state["model_id"], *wanted)


def swap_base(world: World) -> str:
    """Ask for the base that is not deployed. Returns the job."""
    serving_job(world)
    state = world.call("GET", "deploy/status/")
    return world.deploy(OTHER_BASE if state["model_id"] == BASE else BASE)


def _serves(world: World, job_id: str) -> object:
    return world.await_serving(job_id)


def _at_once(_: Job) -> bool:
    return True


def _downloads(job: Job) -> bool:
    return job.stage.endswith("MiB")


def _brings(job: Job) -> bool:
    return _downloads(job) and 0.03 < job.progress < 0.9


def _trains(job: Job) -> bool:
    return job.stage.startswith("step")


def _steps(job: Job) -> bool:
    return _trains(job) and job.progress < 0.08


def _saves(job: Job) -> bool:
    return _trains(job) and 0.15 < job.progress < 0.85


def _stores(job: Job) -> bool:
    return job.progress >= 0.92


def _loads(job: Job) -> bool:
    return 0.1 <= job.progress < 0.8


_STORES = (*_all(("valkey", "s3"), OUTAGE, STOP), DISK)
_DOWNLOAD = (
    *_all((*_parts("downloads"), *CONTROL), KILL),
    *_all(("downloads horse", "management", "gateway"), FREEZE),
    *_all(("management", "gateway"), HANG),
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
    *_all(("management", "gateway"), HANG),
    *_STORES,
)

STATES = (
    State("queued", _queued, _at_once, _downloaded,
          (*_all(("downloads", "downloads horse", *CONTROL), KILL), *_STORES), 3),
    State("downloading", _downloading, _brings, _downloaded, _DOWNLOAD, 3, _downloads),
    State("training, no checkpoint", _training, _steps, _over, _TRAIN, 2, _trains),
    State("training, checkpoint", _training, _saves, _over, _TRAIN, 3, _trains),
    State("storing the adapter", _short_training, _stores, _over,
          (*_all(("training", "training horse", *CONTROL), KILL), *_STORES), 3),
    State("interrupting a download", _interrupting(_downloading, _brings), _at_once, _downloaded, _DOWNLOAD, 3),
    State("interrupting a training", _interrupting(_training, _steps), _at_once, _over, _TRAIN, 2),
    State("serving under load", serving_job, _at_once, _serves, _SERVE, 5, load=True),
    State("engine loading", _deploying, _loads, _serves, _SERVE, 1),
    State("swapping adapters", swap_adapters, _at_once, _serves, _SERVE, 5, load=True),
    State("swapping base", swap_base, _loads, _serves, _SERVE, 1, load=True),
)  # fmt: skip
