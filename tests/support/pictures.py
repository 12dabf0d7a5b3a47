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

from tests.support.prometheus import query_range

COLUMNS = 3
SECONDS = 180
UNITS = {"bool_on_off": "on (1), off (0)", "s": "seconds", "reqps": "requests/s", "ops": "calls/s", "Bps": "bytes/s",
         "percentunit": "share", "short": ""}  # fmt: skip


def draw(client: httpx.Client, dashboard: Any, folder: Path) -> Path:
    """Draw a dashboard as SVG with what Prometheus has seen in the last minutes; gives the file."""
    rows = -(-len(dashboard.panels) // COLUMNS)
    with_text = {"svg.fonttype": "none", "font.size": 8, "axes.titlesize": 9}
    rcParams.update(with_text)
    figure = Figure(figsize=(14, 2.9 * rows), layout="constrained")
    figure.suptitle(dashboard.title, fontsize=13)
    for place, panel in enumerate(dashboard.panels):
        _draw_panel(client, figure.add_subplot(rows, COLUMNS, place + 1), panel)
    path = folder / f"{dashboard.uid}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _draw_panel(client: httpx.Client, axes: Axes, panel: Any) -> None:
    lines = 0
    for legend, expression in panel.queries.items():
        for series in query_range(client, expression, SECONDS):
            pairs = [(float(at), float(value)) for at, value in series["values"]]
            end = pairs[-1][0]
            axes.plot(
                [at - end for at, _ in pairs], [value for _, value in pairs], label=_named(legend, series), lw=1.2
            )
            lines += 1
    axes.set_title(panel.title, loc="left", fontweight="bold")
    axes.set_ylabel(UNITS[panel.unit])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:.0f} s"))
    if lines == 0:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center")
    elif lines <= 8:
        axes.legend(fontsize=6, loc="best")
    else:
        axes.legend(fontsize=5, loc="upper left", ncols=2)


def _named(legend: str, series: Mapping[str, Any]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: series["metric"].get(found[1], "?"), legend)
