"""A short fixed set of faults on the real platform: what `make chaos` does at random and at length."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.promises import AT_THE_END
from tests.chaos.report import Outcome, Report, Swaps, Totals, as_json
from tests.chaos.run import Scene, choose
from tests.chaos.states import STATES
from tests.chaos.watcher import Watcher
from tests.chaos.world import World, running

pytestmark = pytest.mark.timeout(600)
FIXED = (
    ("downloading", "downloads", "kill -9"),
    ("downloading", "downloads guard", "kill -9"),
    ("downloading", "downloads work", "kill -9"),
    ("downloading", "management", "kill -9"),
    ("downloading", "gateway", "kill -9"),
    ("interrupting a download", "management", "kill -9"),
    ("interrupting a download", "valkey", "kill -9"),
    ("training, checkpoint", "training horse", "kill -9"),
    ("training, checkpoint", "valkey", "kill -9"),
)
"""State, process, fault. An engine starts slowly: its faults are in its own tests and in the long run."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once; it must get well again after each fault."""
    with running(tmp_path_factory.mktemp("c")) as world:
        yield world


@pytest.fixture(scope="module")
def watcher(world: World) -> Iterator[Watcher]:
    """Watches all the while."""
    with Watcher(world) as watcher:
        yield watcher


@pytest.fixture(scope="module")
def scene(world: World, watcher: Watcher) -> Iterator[Scene]:
    """One job is hit by several faults; at the end it is over."""
    scene = Scene(world, watcher)
    yield scene
    scene.leave()


@pytest.mark.parametrize(("state", "process", "fault"), FIXED)
def test_the_platform_gets_over(scene: Scene, state: str, process: str, fault: str) -> None:
    found = next(each for each in STATES if each.name == state)
    number = next(n for n, (name, kind) in enumerate(found.hits) if (name, kind.name) == (process, fault))
    outcome = scene.inflict(found, number)
    assert outcome.hit
    assert outcome.faults == ()


def test_no_promise_was_broken_on_the_way(world: World, watcher: Watcher) -> None:
    """Last in this file."""
    assert watcher.findings.doubled == []
    assert watcher.findings.wrong_statuses == []
    assert [fault for check in AT_THE_END for fault in check(world)] == []


def test_a_seed_gives_the_same_faults_again() -> None:
    assert choose(7, 50) == choose(7, 50)
    assert choose(7, 50) != choose(8, 50)
    assert {state.name for state, _ in choose(7, 50, "download")} <= {
        state.name for state in STATES if "download" in state.name
    }


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    outcome = Outcome("queued", "gateway", "kill -9", True, 1.5, "FINISHED", ("lost: job x",))
    totals = Totals(7, Counter(FINISHED=2), asked=9, refused=Counter(a=1), swaps={"other adapters": Swaps(3, 8, 1)})
    (tmp_path / "report").write_text(f"{as_json(outcome)}\n{as_json(totals)}\n")
    report = Report.read([tmp_path / "report"])
    assert (report.outcomes, report.totals) == ([outcome], [totals])
    assert "lost: 1; doubled: 0" in report.text()
