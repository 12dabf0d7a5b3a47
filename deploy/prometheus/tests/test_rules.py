"""The alerts fire when they should, as promtool sees it, and each has its page."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.dashboards import BUILD

FOLDER = Path(__file__).resolve().parents[1]
CHECKOUT = FOLDER.parents[1]
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("words", [("test", "rules", "alerts_test.yml"), ("check", "config", "prometheus.yml")])
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_and_a_runbook_and_no_runbook_is_left_over() -> None:
    tested = (FOLDER / "alerts_test.yml").read_text()
    for rule in RULES:
        assert f"alertname: {rule['alert']}" in tested
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{rule['alert']}.md"
    pages = {path.stem for path in (CHECKOUT / "docs/runbooks").glob("*.md")}
    assert pages == {rule["alert"] for rule in RULES}


def test_every_metric_that_is_asked_for_is_in_the_table() -> None:
    table = set(re.findall(r"^\| `(hearth_\w+)` ", (CHECKOUT / "docs/metrics.md").read_text(), re.MULTILINE))
    panels = [panel for dashboard in BUILD.DASHBOARDS for panel in dashboard.panels]
    asked = " ".join([rule["expr"] for rule in RULES] + [each for panel in panels for each in panel.queries.values()])
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"hearth_\w+", asked)}
    assert names <= table, names - table
