"""Other people's clients on the real platform, each in a process of the environment `clients`."""

import subprocess
from pathlib import Path

import pytest
from hearth_local.paths import env_python

from tests.conftest import Running

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("deployed")]

SCRIPTS = sorted(Path(__file__).with_name("clients").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_works_unchanged(platform: Running, script: Path) -> None:
    platform.await_embedding()
    command = [str(env_python("clients")), str(script), f"{platform.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
