"""What Grafana is given is what the code says."""

import pytest

from tests.support.dashboards import BUILD


@pytest.mark.parametrize("dashboard", BUILD.DASHBOARDS, ids=lambda each: each.uid)
def test_a_dashboards_file_is_as_the_code_makes_it(dashboard: object) -> None:
    written = (BUILD.FOLDER / f"{dashboard.uid}.json").read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert written == BUILD.dashboard_json(dashboard), "run python3 deploy/grafana/build.py"


def test_each_panel_has_a_unit_and_a_sentence() -> None:
    for dashboard in BUILD.DASHBOARDS:
        assert len({panel.title for panel in dashboard.panels}) == len(dashboard.panels)
        for panel in dashboard.panels:
            assert panel.unit
            assert panel.says.endswith(".")
            assert panel.queries
