"""Whole runs: they teach, they can be killed and stopped, and they go on where they were."""

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from hearth_contracts.finetune import DoneEvent, RunSpec, StageEvent

from services.training.trainer.tests.conftest import MODEL_ID, Ended, losses, read_until, spec_for, started, the_rest
from services.training.trainer.tests.conftest import train as run_to_the_end

KILLED_AT = 30


@dataclass(frozen=True)
class Whole:
    """A run that nobody disturbed."""

    spec: RunSpec
    ended: Ended


@pytest.fixture(scope="module")
def whole(unmarked: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    spec = spec_for(unmarked, tmp_path_factory.mktemp("whole"))
    return Whole(spec, run_to_the_end(spec))


def _copied(whole: Whole, folder: Path) -> RunSpec:
    """The undisturbed run, as it was before its adapter was saved, in a folder of its own."""
    shutil.copytree(whole.spec.work_dir, folder)
    shutil.rmtree(folder / "adapter")
    return whole.spec.model_copy(update={"work_dir": str(folder), "output_dir": str(folder / "adapter")})


def test_it_learns_what_it_is_shown(whole: Whole) -> None:
    assert whole.ended.code == 0, whole.ended.log[-3000:]
    assert list(whole.ended.losses) == list(range(1, 81))
    assert (whole.ended.losses[1] or 0) > 5
    assert (whole.ended.losses[80] or 9) < 0.1


def test_nothing_but_events_is_on_standard_output(whole: Whole) -> None:
    *_, last = whole.ended.events  # every line is one, or this raises
    assert isinstance(last, DoneEvent)
    assert last.steps == 80
    assert "train_runtime" in whole.ended.log  # what TRL prints goes to the log


def test_the_adapter_is_whole_and_names_its_base_by_id(whole: Whole) -> None:
    output = Path(whole.spec.output_dir)
    assert {path.name for path in output.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((output / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (MODEL_ID, 16)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in output.iterdir())
    assert not list(output.parent.glob(".*partial"))


def test_killed_and_started_again_it_goes_the_same_way(whole: Whole, unmarked: Path, tmp_path: Path) -> None:
    spec = spec_for(unmarked, tmp_path / "killed")
    with started(spec) as process:
        seen = losses(read_until(process, KILLED_AT))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert seen == pytest.approx({step: whole.ended.losses[step] for step in seen}, rel=1e-4)

    again = run_to_the_end(spec)

    assert again.code == 0, again.log[-3000:]
    (resumed,) = again.resumed_from
    assert resumed >= 24 and resumed % 8 == 0
    assert list(again.losses) == list(range(resumed + 1, 81))
    assert again.losses == pytest.approx({step: whole.ended.losses[step] for step in again.losses}, rel=1e-4)


def test_it_goes_on_from_the_last_whole_checkpoint_when_the_newest_is_empty(whole: Whole, tmp_path: Path) -> None:
    spec = _copied(whole, tmp_path / "late")
    newest = tmp_path / "late" / "checkpoints" / "checkpoint-80"
    shutil.rmtree(newest)
    newest.mkdir()  # as a kill leaves it that comes when it is about to be written

    again = run_to_the_end(spec)

    assert again.code == 0, again.log[-3000:]
    assert again.resumed_from == [72]
    assert again.losses == pytest.approx({step: whole.ended.losses[step] for step in range(73, 81)}, rel=1e-4)


def test_killed_between_the_last_step_and_the_adapter_it_only_saves(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    spec = _copied(whole, folder)

    again = run_to_the_end(spec)

    assert again.code == 0, again.log[-3000:]
    assert (again.resumed_from, again.losses) == ([80], {})
    weights = "adapter/adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (Path(whole.spec.work_dir) / weights).read_bytes()


def test_told_to_stop_it_saves_a_checkpoint_and_says_so_by_its_exit_code(unmarked: Path, tmp_path: Path) -> None:
    spec = spec_for(unmarked, tmp_path / "stopped")
    with started(spec) as process:
        before = read_until(process, 10)
        process.send_signal(signal.SIGTERM)
        ended = the_rest(process, spec)
    assert ended.code == 143
    last = max(ended.losses or losses(before))
    assert last < 80
    checkpoint = tmp_path / "stopped" / "checkpoints" / f"checkpoint-{last}"
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] == last
    assert not Path(spec.output_dir).exists()
    assert not any(isinstance(event, StageEvent) and "adapter" in event.stage for event in ended.events)
