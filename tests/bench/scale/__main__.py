"""`make bench-scale`: what each part costs as there is more of it. Real Redis and S3, the real gateway, mock engines.

On a machine that does other things all times grow alike: what counts is how a row grows from left to right, and the
numbers of Redis commands, which do not depend on the machine at all.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hearth_management.services import Services

from tests.bench.scale import control, nodes, report


class Sizes(NamedTuple):
    """How much of each there is to be."""

    waiting: tuple[int, ...] = (10, 100, 1_000, 10_000)
    routes: tuple[int, ...] = (1, 8, 100, 1_000)
    adapters: tuple[int, ...] = (10, 100, 1_000)
    datasets: tuple[int, ...] = (10, 100, 1_000, 10_000)
    serving: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 5.0  # of load on each number of nodes


SMOKE = Sizes((2, 20), (1, 8), (2,), (2,), (1,), 0.5)


def measure(folder: Path, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, in a scratch folder."""
    with control.platform(folder) as services:
        say("the life of a job")
        results: dict[str, Any] = {"job": control.a_jobs_life(services)}
        say("jobs that wait")
        results["jobs"] = control.jobs_waiting(services, sizes.waiting)
        say("routes")
        results["routes"] = nodes.routes(services.redis, sizes.routes)
        results |= lists(services, sizes, say)
    say("the gateway")
    results["gateway"] = nodes.through_gateway(folder, sizes.serving, sizes.seconds)
    return results


def lists(services: Services, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """What lies in S3."""
    say("adapters")
    adapters = control.adapters_listed(services, sizes.adapters)
    say("datasets")
    return {"adapters": adapters, "datasets": control.datasets_listed(services, sizes.datasets)}


def main() -> int:
    """Measure, print, draw."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--smoke", action="store_true", help="only see that it runs, with very little of everything")
    options.add_argument(
        "--datasets", type=int, help="the most datasets to list: 100000 take some five minutes to make"
    )
    options.add_argument("--lists", action="store_true", help="only print how long lists from S3 take")
    options.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="where picture and figures go")
    chosen = options.parse_args()
    sizes = SMOKE if chosen.smoke else Sizes()
    if chosen.datasets:
        sizes = sizes._replace(datasets=(*(size for size in sizes.datasets if size < chosen.datasets), chosen.datasets))
    with tempfile.TemporaryDirectory(prefix="hearth-scale-") as scratch:
        if chosen.lists:
            with control.platform(Path(scratch)) as services:
                print_lists(lists(services, sizes, say))
            return 0
        results = measure(Path(scratch), sizes, say)
    report.print_steps(results["job"])
    report.print_curve("jobs that wait", results["jobs"])
    report.print_curve("nodes of one model", results["routes"])
    print_lists(results)
    report.print_gateways(results["gateway"])
    report.save(results, chosen.out)
    return 0


def say(words: str) -> None:
    """What is being measured."""
    print(words, file=sys.stderr)


def print_lists(results: dict[str, Any]) -> None:
    """How long lists from S3 take."""
    report.print_times("adapters: GET /v1/models/", results["adapters"])
    report.print_times("datasets: GET /v1/datasets/", results["datasets"])


if __name__ == "__main__":
    sys.exit(main())
