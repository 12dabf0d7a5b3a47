"""The bench itself works: not how fast anything is, but that all of it is measured and nothing lost."""

import json
import subprocess
import sys
from pathlib import Path


def test_hearth_is_measured_beside_no_gateway_at_all(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.bench.gateway", "--smoke", "--peers", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for who in ("direct", "Hearth"):
        assert results["64 connections"][who]["per_s"] > 0
        for measure in ("paced streams", "unpaced streams"):
            assert results[measure][who]["lost"] == 0
            assert results[measure][who]["delay_p50"] > 0
