"""What was measured, as a table, a picture and a page."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

Results = dict[str, dict[str, dict[str, float]]]
"""By measure and contender: what the load generator said, the median of all rounds."""

PARTS = ("uvicorn", "uvloop", "httptools", "msgspec")


class Bar(NamedTuple):
    """One measure of the contract."""

    name: str
    value: str  # what Hearth reached
    bar: str
    is_met: bool


def medians(rounds: list[Results]) -> Results:
    """One result of several."""
    return {
        measure: {
            who: {name: median(each[measure][who][name] for each in rounds) for name in found}
            for who, found in rounds[0][measure].items()
        }
        for measure in rounds[0]
    }


def _at_least(name: str, ours: float, theirs: float, factor: float, whose: str) -> Bar:
    ratio = ours / theirs
    return Bar(name, f"{ratio:.2f} x", f">= {factor:g} x {whose}", ratio >= factor)


def _at_most(name: str, ours: float, theirs: float, factor: float, whose: str) -> Bar:
    ratio = ours / theirs
    return Bar(name, f"{ratio:.2f} x", f"<= {factor:g} x {whose}", ratio <= factor)


def bars(results: Results) -> list[Bar]:
    """Each measure of the contract against what was reached."""

    def of(measure: str, who: str, name: str = "per_s") -> float:
        return results[measure][who][name]

    def added(measure: str, who: str, name: str) -> float:
        return of(measure, who, name) - of(measure, "direct", name)

    found = []
    for connections in (64, 512):
        name = f"{connections} connections"
        ours = of(name, "Hearth")
        found.append(_at_least(f"requests/s, {name}", ours, of(name, "vllm-router"), 1.3, "vllm-router"))
    floor = of("64 connections", "FastAPI + httpx")
    found.append(_at_least("requests/s, 64 connections", of("64 connections", "Hearth"), floor, 40, "FastAPI + httpx"))
    one = "1 connection"
    found.append(_at_most("added p50, 1 connection", added(one, "Hearth", "p50"), added(one, "vllm-router", "p50"), 1.2,
                          "vllm-router's"))  # fmt: skip
    even = "1,000 requests/s"
    found.append(_at_most(f"added p99, {even} offered", added(even, "Hearth", "p99"), added(even, "nginx", "p99"), 2,
                          "nginx's"))  # fmt: skip
    half, full = "500 paced streams", "1,000 paced streams"
    lost = of(half, "Hearth", "lost") + of(full, "Hearth", "lost")
    found.append(Bar("events lost, 500 and 1,000 streams", f"{lost:.0f}", "0", lost == 0))
    delay = added(half, "Hearth", "delay_p99") * 1000
    found.append(Bar(f"p99 added delay of an event, {half}", f"{delay:.1f} ms", "< 5 ms", delay < 5))
    first = added("one stream at a time", "Hearth", "first_p50") * 1000
    found.append(Bar("added time to the first token, median", f"{first:.2f} ms", "< 1 ms", first < 1))
    found.append(_at_most(f"time, {full}", of(full, "Hearth", "took"), of(full, "direct", "took"), 1.05, "direct"))
    for measure, least in (("unpaced streams", 0.95), ("1 MB prompts", 0.9), ("2,048 embeddings", 0.9)):
        found.append(_at_least(measure, of(measure, "Hearth"), of(measure, "direct"), least, "direct"))
    return found


def print_table(results: Results, found: list[Bar]) -> None:
    """To the terminal."""
    console = Console(width=150)
    names = list(next(iter(results.values())))
    table = Table("measure", *names, title="requests/s, or for streams seconds in all")
    for measure, by_name in results.items():
        cells = []
        for name in names:
            figures = by_name.get(name)
            cells.append(_cell(measure, figures) if figures else "-")
        table.add_row(measure, *cells)
    console.print(table)
    table = Table("bar", "wanted", "Hearth", "met")
    for bar in found:
        table.add_row(bar.name, bar.bar, bar.value, "yes" if bar.is_met else "NO")
    console.print(table)


def _cell(measure: str, figures: dict[str, float]) -> str:
    if "paced streams" in measure and "unpaced" not in measure:
        return f"{figures['took']:.2f} s, delay p99 {figures['delay_p99'] * 1000:.1f} ms"
    return f"{figures['per_s']:,.0f} /s, p50 {figures['p50'] * 1000:.2f}, p99 {figures['p99'] * 1000:.2f} ms"


def draw(results: Results, path: Path) -> None:
    """Three pictures in one file: requests/s, the whole time of streams, and the delay of their events."""
    names = list(results["64 connections"])
    colours = dict(zip(names, ("#8c8c8c", "#5b8db8", "#d08a3c", "#b5323c", "#c9c9c9"), strict=True))
    figure = Figure(figsize=(13, 4), layout="constrained")
    rate, took, delay = figure.subplots(1, 3)
    shown = [name for name in names if name != "direct"]
    rate.bar(shown, [results["64 connections"][name]["per_s"] for name in shown], color=[colours[n] for n in shown])
    rate.set_title("requests/s on one core, 64 connections")
    rate.tick_params("x", labelrotation=20)
    for axis, measure, key, title, scale in (
        (took, "1,000 paced streams", "took", "1,000 streams at once: seconds in all", 1),
        (delay, "500 paced streams", "delay_p99", "500 streams at once: p99 delay of an event, ms", 1000),
    ):
        present = [name for name in names if name in results[measure]]
        axis.bar(present, [results[measure][n][key] * scale for n in present], color=[colours[n] for n in present])
        axis.set_title(title)
        axis.tick_params("x", labelrotation=20)
    figure.savefig(path)


def machine() -> str:
    """Where it was measured."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    parts = ", ".join(f"{name} {version(name)}" for name in PARTS)
    return f"{model}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, {parts}"


def page(results: Results, found: list[Bar]) -> str:
    """The same tables, to be kept."""
    names = list(next(iter(results.values())))
    lines = [
        "# The gateway: the newest run", "",
        "Written by `make bench-gateway`; what it means: [benchmarks.md](../benchmarks.md).", "",
        f"{machine()}. Medians of the rounds; requests/s, or for streams seconds in all.", "",
        *_header("", *names),
    ]  # fmt: skip
    for measure, by_name in results.items():
        lines.append(_row(measure, *(_cell(measure, by_name[name]) if name in by_name else "" for name in names)))
    lines += ["", *_header("bar", "wanted", "reached", "met")]
    lines += [_row(bar.name, bar.bar, bar.value, "yes" if bar.is_met else "**no**") for bar in found]
    return "\n".join(lines) + "\n"


def _header(*cells: str) -> list[str]:
    return [_row(*cells), _row(*("---" for _ in cells))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def save(results: Results, found: list[Bar], folder: Path) -> None:
    """The figures, to be read by a program or drawn anew, and a page of them."""
    (folder / "results.json").write_text(json.dumps({"machine": machine(), "results": results}, indent=1))
    (folder / "gateway.md").write_text(page(results, found))
