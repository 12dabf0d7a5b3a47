"""What was measured, as tables and a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from tests.bench.gateway.report import machine
from tests.bench.scale.counting import Cost
from tests.bench.scale.nodes import FEW, MANY, Gateways

Curve = Mapping[int, Mapping[str, Cost]]
Times = Mapping[int, Mapping[str, float]]


def _cell(cost: Cost) -> str:
    return f"{cost.ms:,.1f} ms, {cost.commands:,.0f} commands in {cost.trips:,.0f}"


def print_steps(steps: Mapping[str, Cost]) -> None:
    """What one job asks of Redis."""
    table = Table("a job", "median", "Redis commands", "round trips")
    for name, cost in steps.items():
        table.add_row(name, f"{cost.ms:.2f} ms", f"{cost.commands:.0f}", f"{cost.trips:.0f}")
    Console(width=150).print(table)


def print_curve(title: str, curve: Curve) -> None:
    """Costs by size."""
    table = Table(title, *(f"{size:,}" for size in curve))
    for name in next(iter(curve.values())):
        table.add_row(name, *(_cell(costs[name]) for costs in curve.values()))
    Console(width=200).print(table)


def print_times(title: str, times: Times) -> None:
    """Milliseconds by size."""
    table = Table(title, *(f"{size:,}" for size in times))
    for name in next(iter(times.values())):
        table.add_row(name, *(f"{found[name]:,.0f} ms" for found in times.values()))
    Console(width=150).print(table)


def print_gateways(found: Mapping[int, Gateways]) -> None:
    """Requests a second by the number of nodes."""
    times, asks = (
        ("requests/s", "p50", "p99", "processor, a request"),
        (f"Redis commands/s at {FEW} requests/s", f"at {MANY}/s", "each request more"),
    )
    table = Table("nodes", *times, *asks)
    for size, each in found.items():
        rates = (f"{rate:.1f}" for rate in each.asked)
        table.add_row(
            f"{size:,}",
            f"{each.per_s:,.0f}",
            f"{each.p50_ms:.2f} ms",
            f"{each.p99_ms:.2f} ms",
            f"{each.cpu_us:.0f} us",
            *rates,
            f"{each.asked.a_request:.3f}",
        )
    Console(width=150).print(table)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Four curves, each over its size: jobs that wait, adapters and datasets, nodes."""
    figure = Figure(figsize=(15, 4), layout="constrained")
    waiting, listed, routed, served = figure.subplots(1, 4)
    for axis, curve, title in (
        (waiting, results["jobs"], "while jobs wait: ms"),
        (routed, results["routes"], "routes to the nodes of one model: ms"),
    ):
        for name in next(iter(curve.values())):
            axis.plot([*curve], [costs[name].ms for costs in curve.values()], marker="o", label=name)
        axis.set_title(title)
    for what in ("adapters", "datasets"):
        for name in next(iter(results[what].values())):
            times = results[what]
            listed.plot([*times], [found[name] for found in times.values()], marker="o", label=f"{what}, {name}")
    listed.set_title("listed from S3: ms")
    for axis in (waiting, listed, routed):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.legend(fontsize=7)
    served.plot([*results["gateway"]], [each.cpu_us for each in results["gateway"].values()], marker="o")
    served.set_ylim(bottom=0)
    served.set_title("a request, by nodes: processor us")
    figure.savefig(path)


def save(results: Mapping[str, Any], folder: Path) -> None:
    """The figures, to be read by a program, and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.dumps({"machine": machine(), "results": results}, indent=1, default=str)
    (folder / "scale.json").write_text(plain)
    draw(results, folder / "scale.svg")
