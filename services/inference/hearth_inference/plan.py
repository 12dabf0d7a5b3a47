"""What a node does next: one pure function of what is desired and what runs here."""

from dataclasses import dataclass
from enum import StrEnum

from hearth_contracts.deploy import DeploymentSpec


class Phase(StrEnum):
    """Where an engine process stands."""

    STARTING = "STARTING"  # it runs and does not answer, yet or right now
    ANSWERS = "ANSWERS"  # a request sent now would be answered
    DEAD = "DEAD"  # it has ended, or is to be


@dataclass(frozen=True)
class View:
    """An engine process, as far as planning goes."""

    spec: DeploymentSpec  # the version it was started for or last changed to
    phase: Phase


class Step(StrEnum):
    """What to do next."""

    NOTHING = "NOTHING"
    START = "START"  # begin to start an engine for the goal
    STOP_FIRST = "STOP_FIRST"  # stop the engine that serves, since both do not fit
    PROMOTE = "PROMOTE"  # the new engine answers: adapters, warm-up, switch
    SWAP = "SWAP"  # same base: load and unload adapters in the engine that serves
    DISCARD = "DISCARD"  # stop the new engine: something else is desired by now
    BURY = "BURY"  # the engine that served is dead
    FAILED = "FAILED"  # the new engine is dead


def same_base(one: DeploymentSpec, other: DeploymentSpec) -> bool:
    """Whether one engine process can serve both versions."""
    return _process(one) == _process(other)


def _process(spec: DeploymentSpec) -> DeploymentSpec:
    """What of a version an engine process is started with: all but its adapters and whose wish it is."""
    return spec.model_copy(update={"adapter_ids": (), "job_id": "", "generation": 0})


def plan(goal: DeploymentSpec, serving: View | None, coming: View | None, *, room: bool) -> Step:
    """The next step of a node that is to serve the version `goal`.

    `serving` is the engine whose address is in the node's report, `coming` one that is being started; `room` says
    whether an engine for the goal fits beside the one that serves. Steps are small: after each the node looks
    at the record again.
    """
    if serving is not None and serving.phase is Phase.DEAD:
        return Step.BURY
    if coming is not None:
        if not same_base(coming.spec, goal) or (serving is not None and same_base(serving.spec, goal)):
            return Step.DISCARD
        return {Phase.DEAD: Step.FAILED, Phase.ANSWERS: Step.PROMOTE, Phase.STARTING: Step.NOTHING}[coming.phase]
    if serving is None:
        return Step.START
    if serving.spec == goal:
        return Step.NOTHING
    if same_base(serving.spec, goal):
        return Step.SWAP if serving.phase is Phase.ANSWERS else Step.NOTHING
    return Step.START if room else Step.STOP_FIRST
