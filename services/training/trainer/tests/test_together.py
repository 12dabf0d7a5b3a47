"""Several processes that train one adapter on one machine."""

import signal
from pathlib import Path

import psutil
import pytest
from hearth_contracts.hyperparameters import Hyperparameters

from services.training.trainer.tests.conftest import read_until, spec_for, started, the_rest

pytestmark = pytest.mark.timeout(400)
SETTINGS = Hyperparameters(max_steps=2000, batch_size=10, learning_rate=1e-2, save_steps=10)
KILLED = 128 + signal.SIGKILL


def test_where_one_of_them_is_killed_the_run_ends_as_one_that_was_killed(unmarked: Path, tmp_path: Path) -> None:
    spec = spec_for(unmarked, tmp_path, hyperparameters=SETTINGS)
    with started(spec, processes=2) as process:
        read_until(process, 12)
        *_, last = ranks = [each for each in psutil.Process(process.pid).children() if is_rank(each)]
        assert len(ranks) == 2
        last.kill()
        assert the_rest(process, spec).code == KILLED


def is_rank(process: psutil.Process) -> bool:
    return process.cmdline()[-2:-1] == ["hearth_trainer"]
