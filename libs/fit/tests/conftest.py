"""A real tiny model, as transformers writes it."""

import subprocess
from pathlib import Path

import pytest
from hearth_fit.facts import Facts, read_facts

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tests' tiny Llama."""
    folder = tmp_path_factory.mktemp("tiny") / "llama"
    script = [str(ROOT / ".envs/training/bin/python"), str(ROOT / "tests/support/tiny_llama.py"), str(folder)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def facts(tiny: Path) -> Facts:
    """What its files say."""
    return read_facts(tiny)
