"""The bench itself works; and what must not depend on the machine: which parts ask Redis how often."""

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.scale.nodes import Asked


def test_everything_is_measured_and_a_request_asks_redis_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.bench.scale", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scale.svg").stat().st_size > 0
    results = json.loads((tmp_path / "scale.json").read_text())["results"]
    few, many = results["jobs"]["2"], results["jobs"]["20"]
    turn = "a turn of the reconciler"
    assert abs(many[turn][1] - few[turn][1]) < 2  # commands, however many wait
    for _, _, _, _, asked in results["gateway"].values():
        assert Asked(*asked).a_request < 0.5  # were there one for each it would be 1
