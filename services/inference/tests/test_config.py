"""A GPU is found by looking."""

from pathlib import Path

from hearth_inference.config import detect_device


def test_a_gpu_that_the_driver_lists_is_used(tmp_path: Path) -> None:
    assert detect_device(tmp_path / "absent") == "cpu"
    assert detect_device(tmp_path) == "cpu"
    (tmp_path / "0000:01:00.0").mkdir()
    assert detect_device(tmp_path) == "cuda"
