"""The figures of a run."""

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from statistics import median

from tests.chaos.watcher import Findings
from tests.chaos.world import World


@dataclass(frozen=True)
class Outcome:
    """One fault and what came of it."""

    state: str
    process: str
    fault: str
    hit: bool  # the process was there to be hit
    seconds: float  # from the fault until all was well
    faults: tuple[str, ...]  # what was not well in the end

    def line(self) -> str:
        """For the eye."""
        words = "; ".join(self.faults) or ("well" if self.hit else "well, but there was nothing to hit")
        return f"{self.seconds:6.1f} s  {self.state}: {self.process}, {self.fault}: {words}"

    def json(self) -> str:
        """For a file."""
        return json.dumps(asdict(self))


@dataclass
class Report:
    """Outcomes, and at the end what the watcher found."""

    outcomes: list[Outcome] = field(default_factory=list)
    acknowledged: int = 0
    asked: int = 0
    broken: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.outcomes.append(outcome)
        self.broken += outcome.faults

    def finish(self, world: World, findings: Findings, at_the_end: list[str]) -> None:
        """What was watched all along, and what is wrong at the end."""
        self.acknowledged, self.asked, self.refused = len(world.acknowledged), findings.asked, findings.refused
        self.broken += [*(f"doubled: {each}" for each in findings.doubled), *findings.wrong_statuses, *at_the_end]

    def text(self) -> str:
        """A table for each figure that the guarantees name."""
        by_kind: dict[str, list[float]] = defaultdict(list)
        for outcome in self.outcomes:
            if outcome.hit:
                by_kind[f"{outcome.process}, {outcome.fault}"].append(outcome.seconds)
        rows = [
            f"| {kind} | {len(times)} | {median(times):.1f} | {max(times):.1f} |"
            for kind, times in sorted(by_kind.items())
        ]
        kinds = ("lost", "doubled", "orphan", "wrong status")
        counts = {kind: sum(each.startswith(kind) for each in self.broken) for kind in kinds}
        refused = [f"- {count} x {words}" for words, count in self.refused.most_common()]
        return "\n".join(
            [
                f"faults inflicted: {sum(map(len, by_kind.values()))}; jobs acknowledged: {self.acknowledged}; "
                + "; ".join(f"{kind}: {count}" for kind, count in counts.items()),
                "| fault | times | recovery, median s | max s |",
                "| --- | --- | --- | --- |",
                *rows,
                f"requests under load: {self.asked}, not answered: {sum(self.refused.values())}",
                *refused,
                f"promises broken: {len(self.broken)}",
                *(f"- {words}" for words in self.broken),
            ]
        )
