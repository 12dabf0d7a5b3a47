"""The processes that lead a run on Ray, one after the other. What they do on a cluster: services/training/tests."""

from pathlib import Path

import pytest
from hearth_contracts.finetune import Resources
from hearth_contracts.hyperparameters import Hyperparameters

from services.training.trainer.tests.conftest import in_env, in_training, spec_for

HERE = Path(__file__).parent
STOPPED = 128 + 15


@pytest.mark.timeout(50)
def test_who_asks_to_stop_between_two_drivers_is_heard() -> None:
    assert in_training(HERE / "drivers_program.py").split() == ["4", str(STOPPED)]


def test_as_many_go_on_after_a_loss_as_divide_the_batch_and_all_where_there_is_no_room_for_any(tmp_path: Path) -> None:
    settings = Hyperparameters(max_steps=1, batch_size=8)
    spec = spec_for(tmp_path, tmp_path / "run", hyperparameters=settings, resources=Resources(workers=8))
    done = in_env("ray", HERE / "after_a_loss_program.py", spec.model_dump_json())
    assert done.split() == ["8", "4", "1", "8", "4"]
