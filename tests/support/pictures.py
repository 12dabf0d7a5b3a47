"""Pictures of the dashboards, drawn from their own queries as Grafana is not to be had everywhere."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tests.support.prometheus import query_range

COLUMNS = 3
SECONDS = 180
UNITS = {"bool_on_off": "on (1), off (0)", "s": "seconds", "reqps": "requests/s", "ops": "calls/s", "Bps": "bytes/s",
         "percentunit": "share", "short": ""}  # fmt: skip


def draw(client: httpx.Client, dashboard: Any, path: Path) -> list[str]:
    """Draw a dashboard as PNG with what Prometheus has seen in the last minutes; gives the panels without data."""
    rows = -(-len(dashboard.panels) // COLUMNS)
    rcParams.update({"font.size": 8, "axes.titlesize": 9})
    figure = Figure(figsize=(14, 2.9 * rows), layout="constrained")
    figure.suptitle(dashboard.title, fontsize=13)
    places = {
        panel.title: figure.add_subplot(rows, COLUMNS, number + 1) for number, panel in enumerate(dashboard.panels)
    }
    empty = [panel.title for panel in dashboard.panels if not _draw_panel(client, places[panel.title], panel)]
    figure.savefig(path, dpi=80)
    with Image.open(path) as drawn:
        small = drawn.convert("RGB").quantize(64)
    small.save(path, optimize=True)
    return empty


def _draw_panel(client: httpx.Client, axes: Axes, panel: Any) -> int:
    """Gives the number of lines."""
    lines = 0
    for legend, expression in panel.queries.items():
        for series in query_range(client, expression, SECONDS):
            times, values = zip(*((float(at), float(value)) for at, value in series["values"]), strict=True)
            axes.plot([at - times[-1] for at in times], values, label=_named(legend, series), linewidth=1.2)
            lines += 1
    axes.set_title(panel.title, loc="left", fontweight="bold")
    axes.set_ylabel(UNITS[panel.unit])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:.0f} s"))
    if lines:
        axes.legend(fontsize=6)
    return lines


def _named(legend: str, series: Mapping[str, Any]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: series["metric"].get(found[1], "?"), legend)
