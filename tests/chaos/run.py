"""Inflict faults, one after the other, and measure how the platform gets over them.

python -m tests.chaos.run --seed 7 --faults 200 [--only training] [--disk 3000] [--report FILE]
"""

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tests.chaos.promises import AFTER_EACH, AT_THE_END, SETTLE_SECONDS, answers
from tests.chaos.report import Outcome, Report, Swaps, Totals, as_json
from tests.chaos.states import DISK, STATES, State, serving_job, swap_adapters, swap_base
from tests.chaos.watcher import Watcher
from tests.chaos.world import RECOVERY_SECONDS, NotRecovered, World, running, wait_for

Part = TypeVar("Part", Outcome, Totals)
Hit = tuple[State, int]
"""A state, and which of its hits."""
HITS_A_JOB = 4


def choose(seed: int, count: int, only: str = "", *, disk: bool = False) -> list[Hit]:
    """`count` hits, the same ones for the same seed. Disks are filled where there is one to be filled."""
    dice = random.Random(seed)
    states = [state for state in STATES if any(word in state.name for word in only.split(","))]
    weights = [state.weight for state in states]
    hits: list[Hit] = []
    while len(hits) < count:
        (state,) = dice.choices(states, weights)
        numbers = [n for n, hit in enumerate(state.hits) if disk or hit != DISK]
        hits += [(state, dice.choice(numbers)) for _ in range(HITS_A_JOB if state.works else 1)]
    return hits[:count]


class Scene:
    """What goes on while faults are inflicted, one after the other."""

    def __init__(self, world: World, watcher: Watcher) -> None:
        self._world = world
        self._watcher = watcher
        self._state: State | None = None
        self._job_id = ""

    def inflict(self, state: State, number: int) -> Outcome:
        """Bring the platform into the state, hit it, and wait until all is well again."""
        world, (name, fault) = self._world, state.hits[number]
        self._watcher.label = f"{state.name}: {name}, {fault.name}"
        try:
            self._enter(state)
        except (AssertionError, NotRecovered) as failure:
            return Outcome(state.name, name, fault.name, False, 0, "", (f"not reached: {failure}",))
        if state.load:
            self._watcher.load.set()
        before = world.jobs.get(self._job_id)
        began = time.monotonic()
        undo = fault.inflict(world, name)
        faults = []
        try:
            if state.works is None:
                self.leave()
            else:
                world.await_stage(self._job_id, state.works, since=before)
            if undo is not None:
                undo()
            wait_for(lambda: answers(world), RECOVERY_SECONDS, "the public address does not answer")
            faults = _still_wrong(world)
        except (AssertionError, NotRecovered) as failure:
            faults = [f"{self._watcher.label}: {failure}"]
        seconds = time.monotonic() - began
        self._watcher.load.clear()
        ended = world.job(before.id)["status"]
        is_hit = undo is not None and not before.status.is_over and state.reached(before)
        return Outcome(state.name, name, fault.name, is_hit, seconds, ended, tuple(faults))

    def _enter(self, state: State) -> None:
        """Go on with the job that is there, if it is of this state and comes back into it, or begin another."""
        world = self._world
        if self._state is not state or not world.await_stage(self._job_id, state.reached):
            self.leave()
            self._job_id = state.begin(world)
            self._state = state
            world.await_stage(self._job_id, state.reached)

    def leave(self) -> None:
        """Let the job that is there come to its end."""
        state, self._state = self._state, None
        if state is not None:
            state.leave(self._world, self._job_id)


def _still_wrong(world: World) -> list[str]:
    """What is wrong after as long as the promises allow for it to be mended."""
    found: list[str] = []

    def well() -> bool:
        found[:] = [fault for check in AFTER_EACH for fault in check(world)]
        return not found

    with contextlib.suppress(NotRecovered):
        wait_for(well, SETTLE_SECONDS, "not well")
    return found


def swaps(world: World, watcher: Watcher, count: int, what: str, swap: Callable[[World], str]) -> Swaps:
    """Change what is deployed, back and forth, under load and with no fault: no request may fail."""
    watcher.label, made = what, 0
    try:
        serving_job(world)
        watcher.load.set()
        while made < count:
            world.await_serving(swap(world))
            made += 1
    except (AssertionError, NotRecovered) as failure:
        watcher.findings.wrong_statuses.append(f"after {made} times {what}: {failure}")
    watcher.load.clear()
    refused = sum(n for words, n in watcher.findings.refused.items() if words.startswith(f"{what}: "))
    return Swaps(made, watcher.findings.answered[what] + refused, refused)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; exit code 1 when a promise was broken. Told to stop, it inflicts no further fault and sums up."""
    options = _parse(arguments)
    print(f"seed {options.seed}, {options.faults} faults", flush=True)
    report = Report()
    began = time.monotonic()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    size = options.disk * 2**20 if options.disk else None
    with (
        _folder(options.folder) as folder,
        running(folder, size, warm=options.warm) as world,
        Watcher(world) as watcher,
    ):
        print(f"the platform is up after {time.monotonic() - began:.0f} s", flush=True)
        totals = Totals(options.seed)
        if options.swaps:
            totals.swaps["other adapters"] = swaps(world, watcher, options.swaps, "other adapters", swap_adapters)
        if options.base_swaps:
            totals.swaps["another base"] = swaps(world, watcher, options.base_swaps, "another base", swap_base)
        for what, each in totals.swaps.items():
            print(f"{each.made} times {what}: {each.asked} requests, {each.refused} not answered", flush=True)
        if world.deploy_state() is not None:
            world.call("POST", "deploy/interrupt/")
        scene = Scene(world, watcher)
        for state, number in choose(options.seed, options.faults, options.only, disk=size is not None):
            if stopping or time.monotonic() - began > options.seconds:
                break
            _note(report.outcomes, outcome := scene.inflict(state, number), options.report)
            print(f"{len(report.outcomes):4} {outcome.line()}", flush=True)
        scene.leave()
        _count(totals, world, watcher)
        _note(report.totals, totals, options.report)
    print(report.text())
    return 1 if report.broken else 0


def _count(totals: Totals, world: World, watcher: Watcher) -> None:
    """What was watched all along, and what is wrong at the end."""
    found = watcher.findings
    totals.broken += [*found.doubled, *found.wrong_statuses, *(fault for check in AT_THE_END for fault in check(world))]
    totals.acknowledged.update(job.status.value for job in world.jobs.many(world.acknowledged))
    totals.refused.update(found.refused)
    totals.asked = found.answered.total() + found.refused.total()


def _note(parts: list[Part], part: Part, path: Path | None) -> None:
    parts.append(part)
    if path is not None:
        with path.open("a") as out:
            out.write(as_json(part) + "\n")


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Where the platform lies: a folder that stays, for whoever wants to read its logs, or one that does not."""
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further fault after so long")
    parser.add_argument("--swaps", type=int, default=0, help="adapter swaps under load, without a fault, first of all")
    parser.add_argument("--base-swaps", type=int, default=0, help="the same with bases")
    parser.add_argument("--only", default="", help="only states whose name contains one of these words, with commas")
    parser.add_argument("--disk", type=int, help="MiB of a disk of its own for the data, to be filled; needs root")
    parser.add_argument("--warm", action="store_true", help="with a trainer that stands by")
    parser.add_argument("--folder", type=Path, help="where the platform lies; its logs stay there")
    parser.add_argument("--report", type=Path, help="a file to add the outcomes to, a JSON object a line")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
