"""The processes that lead a run on Ray, one after the other. What they do on a cluster: services/training/tests."""

from pathlib import Path

import pytest

from services.training.trainer.tests.conftest import in_training

HERE = Path(__file__).parent
STOPPED = 128 + 15


@pytest.mark.timeout(50)
def test_who_asks_to_stop_between_two_drivers_is_heard() -> None:
    assert in_training(HERE / "drivers_program.py").split() == ["4", str(STOPPED)]
