"""Several processes that train one adapter: each with the whole base, or with its part of it."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from hearth_contracts.finetune import Resources, RunSpec
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_local.paths import env_python

from services.training.trainer.tests.conftest import Ended, read_until, spec_for, started, the_rest, train

pytestmark = pytest.mark.timeout(400)
HERE = Path(__file__).parent
# All ten rows in each step, so that who learns from which is all that differs.
SETTINGS = Hyperparameters(max_steps=20, batch_size=10, learning_rate=1e-2, save_steps=10)
KILLED = 128 + signal.SIGKILL


def together(spec: RunSpec) -> Ended:
    """Two processes, from beginning to end."""
    with started(spec, processes=2) as process:
        return the_rest(process, spec)


def for_two(model: Path, folder: Path, sharding: str, **changes: Any) -> RunSpec:
    resources = Resources.model_validate({"workers": 2, "sharding": sharding})
    return spec_for(model, folder, **{"hyperparameters": SETTINGS, "resources": resources, **changes})


def held(spec: RunSpec) -> list[dict[str, int]]:
    """What each of two processes holds of the base once it is loaded, in numbers, with what a checkpoint gathers."""
    path = Path(spec.work_dir) / "held.json"
    path.write_text(spec.model_dump_json())
    launcher = [str(env_python("training")), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*launcher, str(HERE / "held_program.py"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **ON_CPUS})
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


ON_CPUS = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def test_processes_that_share_the_base_learn_what_one_does_that_has_all_of_it(unmarked: Path, tmp_path: Path) -> None:
    alone = train(spec_for(unmarked, tmp_path / "alone", hyperparameters=SETTINGS))
    shared = together(for_two(unmarked, tmp_path / "shared", "full"))
    assert shared.code == 0, shared.log[-3000:]
    assert len(alone.losses) == 20
    assert shared.losses == pytest.approx(alone.losses, rel=1e-3)
    files = {path.name for path in (tmp_path / "shared" / "adapter").iterdir()}
    assert files == {path.name for path in (tmp_path / "alone" / "adapter").iterdir()}


def test_each_of_them_holds_its_part_and_a_checkpoint_gathers_the_adapter_alone(unmarked: Path, tmp_path: Path) -> None:
    whole = held(for_two(unmarked, tmp_path, "none"))
    parts = held(for_two(unmarked, tmp_path, "full"))
    base = whole[0]["base"]
    assert [each["base"] for each in whole] == [base, base]
    assert sum(each["base"] for each in parts) == base
    assert all(each["base"] < 0.51 * base for each in parts)
    assert {each["gathered"] for each in [*whole, *parts]} == {0}
    assert {each["adapter"] for each in [*whole, *parts]} == {whole[0]["adapter"]}


def test_their_checkpoint_is_gone_on_from_by_as_many_and_by_one_alone(unmarked: Path, tmp_path: Path) -> None:
    spec = for_two(unmarked, tmp_path, "full")
    undisturbed = together(spec).losses
    for again in (together, train):
        (tmp_path / "adapter").rename(tmp_path / f"adapter-before-{again.__name__}")
        torn = tmp_path / "checkpoints" / "checkpoint-20"
        for name in ("optimizer.pt", "adapter_model.safetensors"):
            (torn / name).unlink()
        for number in range(5000):  # so that removing it takes a while: one process removes, the others wait
            (torn / str(number)).touch()
        resumed = again(spec)
        assert (resumed.code, resumed.resumed_from) == (0, [10]), resumed.log[-3000:]
        assert resumed.losses == pytest.approx({step: undisturbed[step] for step in range(11, 21)}, rel=1e-3)


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_where_one_of_them_is_killed_the_run_ends_as_one_that_was_killed(
    unmarked: Path, tmp_path: Path, sharding: str
) -> None:
    spec = for_two(unmarked, tmp_path, sharding, hyperparameters=SETTINGS.model_copy(update={"max_steps": 2000}))
    with started(spec, processes=2) as process:
        read_until(process, 12)
        *_, last = ranks = [each for each in psutil.Process(process.pid).children() if is_rank(each)]
        assert len(ranks) == 2
        last.kill()
        assert the_rest(process, spec).code == KILLED


def is_rank(process: psutil.Process) -> bool:
    return process.cmdline()[-2:-1] == ["hearth_trainer"]


CODES = """
import json, sys
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from hearth_trainer.together import code_of

for ends in json.loads(sys.argv[1]):
    failures = {rank: ProcessFailure(rank, 1, code, "/no/file") for rank, (code, _) in enumerate(ends)}
    for failure, (_, at) in zip(failures.values(), ends):
        failure.timestamp = 1000 + at
    print(code_of(ChildFailedError("trainer", failures)))
"""


def test_what_torchrun_kills_after_one_has_failed_is_not_taken_for_the_cause() -> None:
    told = [  # exit codes of the ranks, and the second at which torchrun saw each
        ([(1, 0), (-9, 30)], 1),
        ([(-9, 31), (1, 0)], 1),
        ([(-9, 31), (-15, 1), (1, 0)], 1),
        ([(-9, 0), (1, 0)], KILLED),  # the other lost it
        ([(1, 0), (-9, 1)], KILLED),  # so late torchrun may see it
        ([(-15, 0), (143, 0)], 143),
        ([(-11, 0)], -11),
    ]
    command = [str(env_python("training")), "-c", CODES, json.dumps([ends for ends, _ in told])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == [code for _, code in told]
