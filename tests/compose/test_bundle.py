"""The images of an air-gapped bundle."""

import os
import subprocess
import sys
from pathlib import Path

from hearth_local.paths import CHECKOUT

from tests.support.containers import SERVICES, Compose


def test_they_are_those_that_the_project_runs_and_docker_loads_them(compose: Compose, tmp_path: Path) -> None:
    tar = tmp_path / "images.tar"
    code = (
        "import bundle_images, pathlib; found = bundle_images.project_images(); print(*found)\n"
        f"bundle_images.save([each for each in found if 'redis' in each], pathlib.Path({str(tar)!r}))"
    )
    env = {**os.environ, **compose.environment, "PYTHONPATH": str(CHECKOUT / "deploy" / "local")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {each["Config"]["Image"] for each in compose.containers(*SERVICES)}
    load = ["docker", "load", "--input", str(tar)]
    assert "redis:7" in subprocess.run(load, capture_output=True, text=True, check=True).stdout
