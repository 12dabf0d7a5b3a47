"""Inflict faults, one after the other, and measure how the platform gets over them.

python -m tests.chaos.run --seed 7 --faults 200 [--only training] [--report FILE]
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.promises import AFTER_EACH, AT_THE_END, SETTLE_SECONDS
from tests.chaos.report import Outcome, Report
from tests.chaos.states import STATES, State, serving_job, swap_adapters
from tests.chaos.watcher import Watcher
from tests.chaos.world import NotRecovered, World, running, wait_for

Hit = tuple[State, int]
"""A state, and which of its hits."""


def choose(seed: int, count: int, only: str = "") -> list[Hit]:
    """`count` hits, the same ones for the same seed."""
    dice = random.Random(seed)
    states = [state for state in STATES if only in state.name]
    chosen = dice.choices(states, weights=[state.weight for state in states], k=count)
    return [(state, dice.randrange(len(state.hits))) for state in chosen]


def inflict(world: World, watcher: Watcher, state: State, number: int) -> Outcome:
    """Bring the platform into the state, hit it, and wait until all is well again."""
    name, fault = state.hits[number]
    watcher.label = f"{state.name}, {name}, {fault.name}"
    job_id = state.reach(world)
    if state.name in ("serving under load", "swapping adapters"):
        watcher.load.set()
    began = time.monotonic()
    undo = fault.inflict(world, name)
    faults = []
    try:
        state.leave(world, job_id)
        faults = _still_wrong(world)
    except (AssertionError, NotRecovered) as failure:
        faults = [f"{watcher.label}: {failure}"]
    seconds = time.monotonic() - began
    watcher.load.clear()
    if undo is not None:
        undo()
    return Outcome(state.name, name, fault.name, undo is not None, seconds, tuple(faults))


def _still_wrong(world: World) -> list[str]:
    """What is wrong after as long as the promises allow for it to be mended."""
    found: list[str] = []

    def well() -> bool:
        found[:] = [fault for check in AFTER_EACH for fault in check(world)]
        return not found

    with contextlib.suppress(NotRecovered):
        wait_for(well, SETTLE_SECONDS, "not well")
    return found


def swaps(world: World, watcher: Watcher, count: int) -> None:
    """Change adapters on the same base, back and forth, under load and with no fault: no request may fail."""
    serving_job(world)
    watcher.label = "swapping adapters, no fault"
    watcher.load.set()
    for _ in range(count):
        world.await_serving(swap_adapters(world))
    watcher.load.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further fault after so long")
    parser.add_argument("--swaps", type=int, default=0, help="adapter swaps under load, without a fault, at the end")
    parser.add_argument("--only", default="", help="only states whose name contains this")
    parser.add_argument("--report", type=Path, help="a file to add the outcomes to, a JSON object a line")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, {options.faults} faults", flush=True)
    report = Report()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, running(Path(folder)) as world:
        print(f"the platform is up after {time.monotonic() - began:.0f} s", flush=True)
        with Watcher(world) as watcher:
            for state, number in choose(options.seed, options.faults, options.only):
                if time.monotonic() - began > options.seconds:
                    break
                try:
                    outcome = inflict(world, watcher, state, number)
                except (AssertionError, NotRecovered) as failure:
                    outcome = Outcome(state.name, *_named(state, number), False, 0, (f"not reached: {failure}",))
                report.add(outcome)
                print(f"{len(report.outcomes):4} {outcome.line()}", flush=True)
                if options.report:
                    with options.report.open("a") as out:
                        out.write(outcome.json() + "\n")
            if options.swaps:
                swaps(world, watcher, options.swaps)
            report.finish(world, watcher.findings, [fault for check in AT_THE_END for fault in check(world)])
    print(report.text())
    return 1 if report.broken else 0


def _named(state: State, number: int) -> tuple[str, str]:
    name, fault = state.hits[number]
    return name, fault.name


if __name__ == "__main__":
    sys.exit(main())
