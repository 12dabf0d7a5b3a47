"""The alerts fire when they should, as promtool sees it, and each has its page."""

import subprocess
from pathlib import Path

import pytest
import yaml

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
