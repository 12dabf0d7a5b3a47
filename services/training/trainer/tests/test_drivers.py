"""The processes that lead a run on Ray, one after the other. What they do on a cluster: services/training/tests."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hearth_contracts.finetune import Resources
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_local.paths import env_python

from services.training.trainer.tests.conftest import in_env, in_training, spec_for
from tests.support.ray_nodes import ray_cluster

HERE = Path(__file__).parent
STOPPED = 128 + 15
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}


def driven(address: str, folder: Path, run: str, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """What leads a run, from beginning to end."""
    (folder / "run.json").write_text(run)
    command = [str(env_python("ray")), "-m", "hearth_trainer.on_ray", address, str(folder / "run.json"), "60"]
    environment = {name: value for name, value in os.environ.items() if name not in TOKEN} | variables
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.timeout(50)
def test_who_asks_to_stop_between_two_drivers_is_heard() -> None:
    assert in_training(HERE / "drivers_program.py").split() == ["4", str(STOPPED)]


def test_a_lost_driver_is_followed_by_another_three_times_and_as_long_as_a_run_waits_where_it_had_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOUND", str(tmp_path / "found"))  # its standard output is that of the events
    in_training(HERE / "losses_program.py")
    assert (tmp_path / "found").read_text().splitlines() == [
        "1 after 1",
        "0 after 1",
        "0 after 4",
        "1 after 4",
        "0 after 8",
        "1 after 1",
    ]


def test_as_many_go_on_after_a_loss_as_divide_the_batch_and_all_where_there_is_no_room_for_any(tmp_path: Path) -> None:
    settings = Hyperparameters(max_steps=1, batch_size=8)
    spec = spec_for(tmp_path, tmp_path / "run", hyperparameters=settings, resources=Resources(workers=8))
    done = in_env("ray", HERE / "after_a_loss_program.py", spec.model_dump_json())
    assert done.split() == ["8", "4", "1", "8", "4"]


@pytest.mark.timeout(300)
def test_another_token_and_none_are_refused_in_words_that_say_what_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = spec_for(tmp_path, tmp_path / "run").model_dump_json()
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    with ray_cluster(nodes=1) as cluster:
        for variables in (TOKEN | {"RAY_AUTH_TOKEN": TOKEN["RAY_AUTH_TOKEN"][::-1]}, {"RAY_AUTH_MODE": "token"}):
            done = driven(cluster.address, tmp_path, run, {**variables, "HOME": str(tmp_path)})
            last = json.loads(done.stdout.splitlines()[-1])
            assert (done.returncode, last["event"]) == (0, "refused"), done.stderr[-3000:]
            assert "RAY_AUTH_TOKEN" in last["reason"]
            assert "training.ray.tokenSecret" in last["reason"]


@pytest.mark.timeout(100)
def test_what_ray_says_is_gone_is_lost_and_what_code_raised_has_failed() -> None:
    lost, failed = map(json.loads, in_env("ray", HERE / "rays_own_program.py").lower().splitlines())
    assert lost == [True] * 27
    assert failed == [False] * 7


@pytest.mark.timeout(50)
def test_an_error_that_nobody_foresaw_is_no_lost_cluster(tmp_path: Path) -> None:
    done = driven("127.0.0.1:1", tmp_path, "{}", {})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("Traceback") == 1
    assert "ValidationError" in done.stderr
