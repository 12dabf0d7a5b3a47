"""A checkpoint is gone on from only if it is whole. No torch in this: it runs in the light environment."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hearth_local.paths import CHECKOUT


def _module() -> ModuleType:
    """The trainer is installed in its own environment alone, so it is found by its path."""
    path = CHECKOUT / "services" / "training" / "trainer" / "hearth_trainer" / "checkpoints.py"
    spec = importlib.util.spec_from_file_location("trainer_checkpoints", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checkpoints = _module()


def write(folder: Path, step: int) -> Path:
    """A whole checkpoint."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    for name in checkpoints.REQUIRED:
        (path / name).write_bytes(b"x")
    header = json.dumps({"__metadata__": {}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (path / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_the_newest_is_the_one_with_the_highest_step(tmp_path: Path) -> None:
    write(tmp_path, 90)
    newest = write(tmp_path, 100)
    assert checkpoints.newest_valid(tmp_path) == newest


def test_a_run_that_has_saved_nothing_begins_at_the_beginning(tmp_path: Path) -> None:
    assert checkpoints.newest_valid(tmp_path / "nothing") is None


def _cut_weights(path: Path) -> None:
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _zero_weights(path: Path) -> None:
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: [file.unlink() for file in path.iterdir()], id="empty folder"),
        pytest.param(lambda path: (path / "optimizer.pt").write_bytes(b""), id="empty optimizer"),
        pytest.param(lambda path: (path / "trainer_state.json").write_text('{"global_st'), id="half a state"),
        pytest.param(lambda path: (path / "trainer_state.json").write_text("[]"), id="no state"),
        pytest.param(lambda path: (path / "trainer_state.json").write_text('{"global_step": 1}'), id="other step"),
        pytest.param(_cut_weights, id="weights cut off"),
        pytest.param(_zero_weights, id="weights all zeros"),
    ],
)
def test_a_broken_one_is_passed_over_and_removed(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    good, broken = write(tmp_path, 8), write(tmp_path, 16)
    harm(broken)
    assert checkpoints.newest_valid(tmp_path) == good
    assert not broken.exists()
