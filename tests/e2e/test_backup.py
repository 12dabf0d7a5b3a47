"""A backup of the running platform, restored into an empty one, answers as the first did."""

import io
from pathlib import Path

import httpx
import pytest
from hearth_local.backup import backup, restore
from hearth_local.config import CannotStart, Config, Ports
from hearth_local.platform import Platform
from rich.console import Console
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import Running
from tests.support.servers import free_port

pytestmark = pytest.mark.timeout(900)

SERVING_SECONDS = 480
QUIET = Console(file=io.StringIO())


def answer(url: str, adapter_id: str, question: str) -> str:
    body = {
        "model": adapter_id,
        "temperature": 0,
        "max_tokens": 24,
        "messages": [{"role": "user", "content": question}],
    }
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


@pytest.mark.usefixtures("deployed")
def test_a_restored_platform_serves_what_the_first_one_served(
    platform: Running, adapter_id: str, taught: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    question, expected = taught[0]
    file = tmp_path_factory.mktemp("b") / "hearth.tar"
    assert backup(platform.platform, file, QUIET) == 0
    assert file.stat().st_mode & 0o077 == 0
    own = {"HEARTH_EMBEDDING_MODEL": "", "HEARTH_METRICS_PORT": str(free_port())}
    settings = {**platform.platform.config.extra_env, **own}
    other = Platform(Config(tmp_path_factory.mktemp("r"), Ports.free(), settings))
    try:
        assert restore(other, file, QUIET) == 0
        assert not other.is_up()
        other.start(QUIET)
        for attempt in Retrying(stop=stop_after_delay(SERVING_SECONDS), wait=wait_fixed(1), reraise=True):
            with attempt:
                assert answer(other.url, adapter_id, question) == expected
        with pytest.raises(CannotStart, match="the platform is up"):
            restore(other, file, QUIET)
        for path, name in (("jobs", "id"), ("datasets", "id"), ("models", "model_id")):
            old, new = (httpx.get(f"{url}/api/v1/{path}/", trust_env=False).json() for url in (platform.url, other.url))
            assert {entry[name] for entry in old} <= {entry[name] for entry in new}
    finally:
        other.stop(QUIET)
    assert restore(other, file, QUIET) != 0  # it is not empty any more


def test_what_is_no_backup_says_so_and_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tar").write_bytes(b"no")
    other = Platform(Config(tmp_path / "home", Ports.free()))
    assert restore(other, tmp_path / "x.tar", QUIET) == 1
    assert "cannot be read as a backup" in capfd.readouterr().err
    assert not other.is_up()
