"""The figures of one run, or of several together.

python -m tests.chaos.report FILE...     # what runs wrote with --report
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

KINDS = ("lost", "doubled", "orphan", "wrong status", "not whole")
"""What a broken promise begins with; others did not get well in time."""


@dataclass(frozen=True)
class Outcome:
    """One fault and what came of it."""

    state: str
    process: str
    fault: str
    hit: bool  # the process was there, and the job in the state, when the fault came
    seconds: float  # from the fault until all was well
    ended: str  # what the job was in the end
    faults: tuple[str, ...]  # what was not well in the end

    def line(self) -> str:
        """For the eye."""
        words = "; ".join(self.faults) or ("well" if self.hit else "well, but there was nothing to hit")
        return f"{self.seconds:6.1f} s  {self.state}: {self.process}, {self.fault}: {words} ({self.ended})"


@dataclass
class Swaps:
    """Changes under load with no fault, and the requests meanwhile."""

    made: int = 0
    asked: int = 0
    refused: int = 0


@dataclass
class Totals:
    """What is known at the end of a run."""

    seed: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)  # jobs, by how they ended
    broken: list[str] = field(default_factory=list)
    asked: int = 0  # requests under load while faults were inflicted
    refused: Counter[str] = field(default_factory=Counter)  # those not answered, by what was being done
    swaps: dict[str, Swaps] = field(default_factory=dict)  # by what was changed


@dataclass
class Report:
    """Outcomes and totals; a line of JSON each where they are kept."""

    outcomes: list[Outcome] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)

    @staticmethod
    def read(paths: Iterable[Path]) -> "Report":
        """What runs wrote. A run that was cut off has outcomes and no totals."""
        report = Report()
        for path in paths:
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if "state" in entry:
                    report.outcomes.append(Outcome(**{**entry, "faults": tuple(entry["faults"])}))
                else:
                    swaps = {what: Swaps(**each) for what, each in entry.pop("swaps").items()}
                    counters = {name: Counter(entry.pop(name)) for name in ("acknowledged", "refused")}
                    report.totals.append(Totals(**entry, **counters, swaps=swaps))
        return report

    @property
    def broken(self) -> list[str]:
        """Every broken promise."""
        return [words for part in (*self.outcomes, *self.totals) for words in _broken(part)]

    def text(self) -> str:
        """A table for each figure that the guarantees name."""
        hits = [outcome for outcome in self.outcomes if outcome.hit]
        jobs = sum((total.acknowledged for total in self.totals), Counter[str]())
        counts = Counter(next((kind for kind in KINDS if words.startswith(kind)), "other") for words in self.broken)
        asked = sum(total.asked for total in self.totals)
        refused = sum((total.refused for total in self.totals), Counter[str]())
        lines = [
            f"seeds {', '.join(str(total.seed) for total in self.totals)}; faults inflicted: {len(hits)}; "
            f"came too late for their state or found no process: {len(self.outcomes) - len(hits)}",
            f"jobs acknowledged: {jobs.total()} ({', '.join(f'{n} {status}' for status, n in jobs.most_common())}); "
            + "; ".join(f"{kind}: {counts[kind]}" for kind in (*KINDS, "other")),
            *_table("fault", hits, lambda outcome: f"{outcome.process}, {outcome.fault}"),
            *_table("state", hits, lambda outcome: outcome.state),
            f"requests under load: {asked}, not answered: {refused.total()}",
            *(f"- {count} x {words}" for words, count in refused.most_common()),
        ]
        for total in self.totals:
            lines += [
                f"seed {total.seed}, {each.made} times {what} under load: {each.asked} requests, "
                f"{each.refused} not answered"
                for what, each in total.swaps.items()
            ]
        return "\n".join([*lines, f"promises broken: {len(self.broken)}", *(f"- {words}" for words in self.broken)])


def _broken(part: Outcome | Totals) -> Sequence[str]:
    return part.faults if isinstance(part, Outcome) else part.broken


def _table(title: str, hits: list[Outcome], key: Callable[[Outcome], str]) -> list[str]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in hits:
        groups[key(outcome)].append(outcome)
    rows = [f"| {title} | times | until well, median s | max s | its job then |", "| --- | --- | --- | --- | --- |"]
    for name, found in sorted(groups.items()):
        ends = Counter(outcome.ended for outcome in found)
        seconds = [outcome.seconds for outcome in found]
        words = ", ".join(f"{count} {status}" for status, count in ends.most_common())
        rows.append(f"| {name} | {len(found)} | {median(seconds):.1f} | {max(seconds):.1f} | {words} |")
    return rows


def as_json(part: Outcome | Totals) -> str:
    """A line for a file."""
    return json.dumps(asdict(part) if isinstance(part, Outcome) else vars(part), default=vars)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    print(Report.read(parser.parse_args().files).text())


if __name__ == "__main__":
    main()
