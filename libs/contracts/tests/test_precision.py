"""What a base is trained in, by its size and the machine."""

from pathlib import Path

import pytest
from hearth_contracts.precision import SMALL_MODEL_BYTES, has_avx512, training_width

LARGE, SMALL = SMALL_MODEL_BYTES, SMALL_MODEL_BYTES - 1


@pytest.mark.parametrize(
    ("weight_bytes", "gpu", "avx512", "width"),
    [
        pytest.param(LARGE, False, True, 2, id="a large one where bfloat16 is multiplied fast"),
        pytest.param(SMALL, False, True, 4, id="a small one there"),
        pytest.param(LARGE, False, False, 4, id="a large one where it is not"),
        pytest.param(SMALL, True, False, 2, id="a GPU"),
    ],
)
def test_bfloat16_is_used_only_where_it_is_multiplied_fast(
    weight_bytes: int, gpu: bool, avx512: bool, width: int
) -> None:
    assert training_width(weight_bytes, gpu=gpu, avx512=avx512) == width


@pytest.mark.parametrize(
    ("text", "has"),
    [
        pytest.param("processor\t: 0\nflags\t\t: fma avx2 avx512f avx512dq avx512bw avx512vl\n", True, id="all parts"),
        pytest.param("processor\t: 0\nflags\t\t: fma avx2 avx512f\n", False, id="one part"),
        pytest.param("processor\t: 0\nFeatures\t: fp asimd bf16\n", False, id="another kind of processor"),
    ],
)
def test_the_processor_is_asked_for_each_part_of_avx_512(tmp_path: Path, text: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_avx512(tmp_path / "cpuinfo") is has


def test_where_nothing_is_known_of_the_processor_it_has_none(tmp_path: Path) -> None:
    assert not has_avx512(tmp_path / "missing")
