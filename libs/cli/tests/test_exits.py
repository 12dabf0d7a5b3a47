"""Exit codes, and what is told with them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hearth_cli.app import app
from hearth_local.platform import ProgramStatus
from starlette.responses import JSONResponse
from typer.testing import CliRunner, Result

from tests.support.servers import free_port
from tests.support.stand_in import StandIn, standing_in

Call = Callable[..., Result]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with standing_in(StandIn()) as server:
        monkeypatch.setenv("HEARTH_URL", server.url)
        yield server


def call(*words: str, code: int) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def answer(server: StandIn, status: int, **body: object) -> None:
    server.answers = [lambda _request: JSONResponse({"title": "x", "status": status, **body}, status)]


def test_a_platform_that_does_not_answer_is_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_URL", f"http://127.0.0.1:{free_port()}")
    told = call("models", "list", code=3)
    assert (told.stdout, "hearth up" in told.stderr) == ("", True)


def test_this_machines_platform_that_is_down_is_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEARTH_URL", raising=False)
    monkeypatch.setenv("HEARTH_HOME", str(tmp_path))
    assert "hearth up" in call("status", code=3).stderr


def test_a_refusal_is_4_with_what_where_and_what_to_do(server: StandIn) -> None:
    answer(server, 401, detail="this needs an API key")
    told = call("jobs", "list", "--json", code=4)
    assert told.stdout == ""
    assert told.stderr.splitlines()[0] == "error: this needs an API key"
    assert "GET /api/v1/jobs/" in told.stderr
    assert "HEARTH_API_KEY" in told.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("models", "nothing"),
        ("jobs", "list", "--kind", "nothing"),
        ("finetune", "create", "model", "data", "--set", "n_epochs"),
        ("finetune", "create", "model", "data", "--set", "n_epochs=-1"),
        ("finetune", "create", "model", "data", "--set", "no_such=1"),
        ("finetune", "create", "model", "data", "--resource", "workers"),
        ("finetune", "create", "model", "data", "--resource", "workers=0"),
        ("deploy", "create", "model", "--set", "max_model_len=short"),
    ],
)
def test_what_cannot_be_read_is_2_and_asks_nothing(server: StandIn, words: tuple[str, ...]) -> None:
    told = call(*words, code=2)
    assert server.asked == []
    assert words[-1].partition("=")[0] in told.stderr


def test_the_installed_command_lists_all_commands_and_exit_codes() -> None:
    program = Path(sys.executable).parent / "hearth"
    told = subprocess.run([str(program), "--help"], capture_output=True, text=True, check=True).stdout
    for word in ("doctor", "support-bundle", "finetune", "chat", "--install-completion", "130 interrupted"):
        assert word in told


def test_json_of_an_empty_list_is_a_list(server: StandIn) -> None:
    server.answers = [lambda _request: JSONResponse([])]
    assert json.loads(call("models", "list", "--json", code=0).stdout) == []
    assert call("models", "list", code=0).stdout == "none\n"


@dataclass(frozen=True)
class SomePlatform:
    """Stands in for this machine's, whose programs take a minute to start."""

    ready: bool

    def status(self) -> list[ProgramStatus]:
        return [ProgramStatus("gateway", "RUNNING", self.ready, 7, 60.0, 2**20, 8080)]


@pytest.mark.parametrize(("ready", "code"), [(True, 0), (False, 1)])
def test_programs_are_shown_though_the_api_wants_a_key(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, ready: bool, code: int
) -> None:
    answer(server, 401, detail="this needs an API key")
    monkeypatch.delenv("HEARTH_URL")
    monkeypatch.setenv("HEARTH_GATEWAY_PORT", str(server.port))
    monkeypatch.setattr("hearth_cli.commands.status.this_platform", lambda: SomePlatform(ready))
    told = call("status", code=code).stdout
    assert "RUNNING" in told
    assert "HEARTH_API_KEY" in told
