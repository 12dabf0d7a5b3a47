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
NOT_SENT = "interrupt|/keys|/deployments"
"""Interrupts and deletions of deployments need no parameter that is hard to guess, and once there is an API
key, who has none is turned away. Tests of their own send them."""


@pytest.mark.last
@pytest.mark.usefixtures("deployed")
def test_no_request_is_answered_with_a_5xx_or_by_what_is_not_documented(platform: Running, tmp_path: Path) -> None:
    platform.await_embedding()
    command = [
        str(env_python("clients").with_name("schemathesis")), "--config-file", str(CONFIG),
        "run", f"{platform.url}/api/openapi.json", "--seed", SEED, "--max-time", str(SECONDS),
        "--phases", "examples,coverage,fuzzing", "--exclude-path-regex", NOT_SENT, "--continue-on-failure",
        "--request-timeout", "60", "--no-color", "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=2 * SECONDS + 120, check=False)
    said = done.stdout[done.stdout.find("FAILURES") :] if "FAILURES" in done.stdout else done.stdout
    print(done.stdout[done.stdout.find("SUMMARY") :])
    assert done.returncode == 0, said + done.stderr
