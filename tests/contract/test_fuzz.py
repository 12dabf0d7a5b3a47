"""Schemathesis over the merged OpenAPI document: no 5xx, and no answer that the document does not have.

`make fuzz` runs it for longer, with another seed each time. It comes after the other tests: it deploys and deletes.
"""

import os
import subprocess
from pathlib import Path

import pytest
from hearth_local.paths import env_python

from tests.conftest import Running

pytestmark = pytest.mark.timeout(7200)

CONFIG = Path(__file__).with_name("schemathesis.toml").absolute()
SECONDS = int(os.environ.get("HEARTH_FUZZ_SECONDS", "60"))
SEED = os.environ.get("HEARTH_FUZZ_SEED", "1")
ENDS_WHAT_OTHERS_ASK = "interrupt|/keys|/deployments"
"""Not sent: interrupts and deletions of deployments need no parameter that is hard to guess, and once there is an API
key, who has none is turned away. Tests of their own send them."""


def schemathesis(platform: Running, folder: Path, *words: str, seconds: int) -> None:
    """Run it; what it finds fails the test, in its own words."""
    command = [
        str(env_python("clients").with_name("schemathesis")), "--config-file", str(CONFIG),
        "run", f"{platform.url}/api/openapi.json", "--seed", SEED, "--max-time", str(seconds),
        "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--request-timeout", "60", "--no-color",
        "--suppress-health-check", "all", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=2 * seconds + 120, check=False)
    said = done.stdout[done.stdout.find("FAILURES") :] if "FAILURES" in done.stdout else done.stdout
    print(done.stdout[done.stdout.find("SUMMARY") :])
    assert done.returncode == 0, said + done.stderr


@pytest.mark.last
@pytest.mark.usefixtures("deployed")
def test_no_request_is_answered_with_a_5xx_or_by_what_is_not_documented(platform: Running, tmp_path: Path) -> None:
    platform.await_embedding()
    schemathesis(platform, tmp_path, "--exclude-path-regex", ENDS_WHAT_OTHERS_ASK, seconds=SECONDS)
