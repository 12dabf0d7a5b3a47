"""What was measured of training, as a table and a picture."""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

LAST_STEPS = 10
CONTENDERS = ("script", "cold", "warm")


@dataclass(frozen=True)
class Measured:
    """One run: when it was asked for, and when each of its steps was done, in seconds since 1970."""

    asked: float
    at: list[float]
    losses: list[float]

    @property
    def to_first_step(self) -> float:
        """Seconds."""
        return self.at[0] - self.asked

    @property
    def steps_per_second(self) -> float:
        """Once it runs: from the first step to the last."""
        return (len(self.at) - 1) / (self.at[-1] - self.at[0])

    @property
    def final_loss(self) -> float:
        """The mean of the last steps."""
        return fmean(self.losses[-LAST_STEPS:])


Rounds = dict[str, list[Measured]]
"""By contender, a run each round."""


def ratio(rounds: Rounds, who: str, figure: str) -> float:
    """The median over the rounds of a contender's figure to the script's in the same round."""
    pairs = zip(rounds[who], rounds["script"], strict=True)
    return median(getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs)


def print_table(title: str, rounds: Rounds) -> None:
    """To the terminal."""
    out = Console(width=110)
    table = Table(
        title=f"{title} ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {len(rounds['script'])} rounds)"
    )
    for name in (
        "",
        "s to the first step",
        "x the script's",
        "steps/s",
        "x the script's",
        "final loss",
        "x the script's",
    ):
        table.add_column(name, justify="right")
    for who in CONTENDERS:
        cells = []
        for figure in ("to_first_step", "steps_per_second", "final_loss"):
            value = median(getattr(run, figure) for run in rounds[who])
            cells += [f"{value:.4g}", f"{ratio(rounds, who, figure):.3g}"]
        table.add_row(who, *cells)
    out.print(table)


def save(title: str, rounds: Rounds, folder: Path) -> None:
    """The figures, and a picture: the loss of each step by the time since the run was asked for."""
    figures = {
        who: [
            {"to_first_step": r.to_first_step, "steps_per_second": r.steps_per_second, "final_loss": r.final_loss}
            for r in runs
        ]
        for who, runs in rounds.items()
    }
    machine = f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    (folder / "train.json").write_text(json.dumps({"model": title, "machine": machine, "runs": figures}, indent=1))
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for who, colour in zip(CONTENDERS, ("#8c8c8c", "#d08a3c", "#b5323c"), strict=True):
        run = rounds[who][-1]
        name = "TRL script, started by hand" if who == "script" else f"Hearth, {who} trainer"
        axis.plot([at - run.asked for at in run.at], run.losses, color=colour, label=name)
    axis.set_xlabel("seconds since the run was asked for")
    axis.set_ylabel("loss")
    axis.set_title(f"{title}: the same run three ways")
    axis.legend()
    figure.savefig(folder / "train.svg")
