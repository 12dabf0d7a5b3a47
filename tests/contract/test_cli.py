"""`hearth` on the real platform: each command as a person and as a script would call it."""

import gzip
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hearth_cli.app import app
from hearth_local.config import load_secrets
from tenacity import Retrying, stop_after_delay, wait_fixed
from typer.testing import CliRunner, Result

from tests.conftest import CONVERSATIONS, HYPERPARAMETERS, Running

pytestmark = pytest.mark.timeout(600)

Call = Callable[..., Result]
SETTINGS = [word for name, value in HYPERPARAMETERS.items() for word in ("--set", f"{name}={value}")]
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def call(platform: Running, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command; it must end with that exit code."""
    monkeypatch.setenv("HEARTH_URL", platform.url)
    monkeypatch.setenv("COLUMNS", "240")

    def run(*words: str, code: int = 0, typed: str | None = None) -> Result:
        result = CliRunner().invoke(app, list(words), input=typed)
        assert result.exit_code == code, (words, result.output, result.exception)
        return result

    return run


def read(result: Result) -> Any:
    return json.loads(result.stdout)


def test_models_are_listed_for_people_and_for_scripts(call: Call, model_id: str) -> None:
    assert model_id in call("models", "list").stdout
    entries = read(call("models", "list", "--json"))
    assert model_id in [entry["model_id"] for entry in entries]
    assert "acme/another-llama" in call("models", "search", "another").stdout
    assert [entry["model_id"] for entry in read(call("models", "search", "tiny-llama", "--json"))] == [
        "acme/tiny-llama"
    ]
    assert read(call("models", "add", "acme/another-llama", "--dry-run", "--json"))["fits"]


def test_a_dataset_goes_up_is_looked_at_and_comes_back(call: Call, model_id: str, tmp_path: Path) -> None:
    made = read(call("datasets", "upload", str(CONVERSATIONS), "--description", "by hand", "--json"))
    assert made["id"] in call("datasets", "list").stdout
    assert "user: " in call("datasets", "preview", made["id"], "--limit", "1").stdout
    counted = read(call("datasets", "tokens", made["id"], "--model", model_id, "--json"))
    assert counted["tokens"] > counted["longest_row"] > 0
    assert f"{counted['tokens']:,}" in call("datasets", "tokens", made["id"], "-m", model_id).stdout
    call("datasets", "download", made["id"], str(tmp_path / "back.jsonl"))
    assert (tmp_path / "back.jsonl").read_bytes() == CONVERSATIONS.read_bytes()
    call("datasets", "delete", made["id"], code=1, typed="n\n")
    call("datasets", "delete", made["id"], "--yes")
    gone = call("datasets", "download", made["id"], str(tmp_path / "gone.jsonl"), code=4)
    assert made["id"] in gone.stderr
    assert not (tmp_path / "gone.jsonl").exists()


def test_a_faulty_file_is_told_line_by_line(call: Call, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "good"}\nbad\n')
    assert "line 2: is not JSON" in call("datasets", "upload", str(bad), code=4).stderr
    call("datasets", "upload", str(tmp_path / "nothing"), code=2)


def test_a_finetune_is_planned_watched_and_shown(call: Call, model_id: str, dataset_id: str) -> None:
    planned = read(call("finetune", "create", model_id, dataset_id, *SETTINGS, "--dry-run", "--json"))
    assert planned["plan"]["hyperparameters"]["lora_rank"] == 16
    short = [*SETTINGS, "--set", "max_steps=3"]
    done = read(call("finetune", "create", model_id, dataset_id, "--name", "By hand", *short, "--watch", "--json"))
    assert done["job"]["status"] == "FINISHED"
    assert done["id"] in call("finetune", "list").stdout
    assert "FINISHED" in call("finetune", "status").stdout
    assert "3/3" in call("finetune", "metrics", done["id"]).stdout
    followed = call("finetune", "metrics", done["id"], "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["step"] for line in followed] == [1, 2, 3]
    call("models", "delete", done["adapter_id"], "--yes")


def test_a_finetune_that_is_interrupted_fails_the_watch_and_can_be_resumed(
    call: Call, model_id: str, dataset_id: str
) -> None:
    long = [*SETTINGS, "--set", "max_steps=5000"]
    begun = read(call("finetune", "create", model_id, dataset_id, *long, "--json"))
    call("finetune", "interrupt", begun["id"])
    assert "KILLED" in call("finetune", "status", begun["id"], "--watch", code=1).stderr
    resumed = read(call("finetune", "resume", begun["id"], "--json"))
    assert resumed["previous_job_ids"] == [begun["job_id"]]
    assert read(call("jobs", "interrupt", resumed["job_id"], "--json"))["id"] == resumed["job_id"]
    assert "KILLED" in call("jobs", "show", resumed["job_id"], "--watch", code=1).stderr


def test_jobs_are_chosen_and_their_logs_printed(call: Call, adapter_id: str) -> None:
    found = read(call("jobs", "list", "--kind", "finetune", "--status", "FINISHED", "--limit", "1", "--json"))
    assert [job["kind"] for job in found] == ["finetune"]
    whole = call("jobs", "logs", found[0]["id"]).stdout
    assert call("jobs", "logs", found[0]["id"], "-f").stdout.splitlines() == whole.splitlines()
    assert found[0]["id"] in call("jobs", "list", "--limit", "1000").stdout


def test_what_is_deployed_is_shown_and_swapped(call: Call, deployed: dict[str, Any], adapter_id: str) -> None:
    assert "READY" in call("deploy", "status").stdout
    without = read(call("deploy", "swap", "--remove", adapter_id, "--watch", "--json"))
    assert (without["state"], without["adapter_ids"]) == ("READY", [])
    again = read(call("deploy", "swap", "--add", adapter_id, "--watch", "--json"))
    assert (again["state"], again["adapter_ids"], again["model_id"]) == ("READY", [adapter_id], deployed["model_id"])
    assert read(call("deploy", "create", deployed["model_id"], "--adapter", adapter_id, "--dry-run", "--json"))["fits"]
    assert read(call("deploy", "status", "--watch", "--json"))["state"] == "READY"
    assert "1/1 (1 to 2)" in call("deploy", "scale", "--max", "2").stdout
    scaled = read(call("deploy", "scale", "1", "--max", "0", "--idle-after", "0", "--json"))["status"]
    assert (scaled["replicas"]["desired"], scaled["idle_after"], scaled["job"]["id"]) == (1, 0, again["job"]["id"])


@pytest.mark.usefixtures("deployed")
def test_chat_answers_once_and_in_a_conversation(call: Call, adapter_id: str, taught: list[tuple[str, str]]) -> None:
    question, answer = taught[0]
    asked = ("--model", adapter_id, "--temperature", "0", "--max-tokens", "40")
    assert call("chat", question, *asked).stdout.strip() == answer
    assert call("chat", "-", *asked, typed=question).stdout.strip() == answer
    assert answer in call("chat", *asked, "--system", "Be brief.", typed=f"{question}\n\n").stdout
    assert "Compressa-LLM" in call("chat", question, "--model", "nothing", code=4).stderr


@pytest.mark.usefixtures("deployed")
def test_status_shows_deployments_and_usage_what_was_asked(call: Call) -> None:
    call("chat", "Hello", "--max-tokens", "3")
    assert "READY" in call("status").stdout
    assert {"programs", "deployments", "jobs"} <= read(call("status", "--json")).keys()
    for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.2), reraise=True):  # it is brought in later
        with attempt:
            assert any(row["completion_tokens"] for row in read(call("usage", "--json")))
    assert "completion tokens" in call("usage").stdout


def test_what_is_not_there_is_refused(call: Call) -> None:
    assert NOBODY in call("jobs", "show", NOBODY, code=4).stderr
    assert NOBODY in call("finetune", "status", NOBODY, code=4).stderr


@pytest.fixture
def this_machine(platform: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform is the one that settings name."""
    config = platform.platform.config
    monkeypatch.setenv("HEARTH_HOME", str(config.home))
    for name in ("gateway", "management", "dataset", "redis", "s3"):
        monkeypatch.setenv(f"HEARTH_{name.upper()}_PORT", str(config.ports[name]))


@pytest.mark.usefixtures("this_machine")
def test_the_doctor_finds_no_fault_in_a_healthy_platform(
    call: Call, platform: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def findings_of() -> dict[str, str]:
        return {finding["check"]: finding["verdict"] for finding in read(call("doctor", "--json"))}

    elsewhere = findings_of()  # as HEARTH_URL names it
    assert "fault" not in elsewhere.values()
    assert {"platform", "clock", "datasets", "queue training", "deployment default"} <= elsewhere.keys()
    monkeypatch.delenv("HEARTH_URL")
    findings = findings_of()
    assert "fault" not in findings.values()
    programs = {f"program {program.name}" for program in platform.platform.programs}
    assert programs | {"redis", "s3", "clock", "environment vllm", "gpu"} <= findings.keys()
    assert "no fault" in call("doctor").stdout
    assert {program["name"]: program["ready"] for program in read(call("status", "--json"))["programs"]} == {
        program.name: True for program in platform.platform.programs
    }


@pytest.mark.usefixtures("this_machine", "adapter_id")
def test_a_support_bundle_has_no_secret_prompt_or_row_in_any_byte(
    call: Call, platform: Running, deployed: dict[str, Any], taught: list[tuple[str, str]], tmp_path: Path
) -> None:
    marker = "my-very-own-prompt"
    call("chat", marker, "--max-tokens", "3")
    target = tmp_path / "bundle.tar.gz"
    call("support-bundle", str(target))
    unpacked = gzip.decompress(target.read_bytes()).decode(errors="replace")
    keys = load_secrets(platform.platform.config)
    for secret in (*asdict(keys).values(), marker, *(answer for _, answer in taught)):
        assert secret not in unpacked
    for told in (deployed["job"]["id"], "logs/gateway.log", "logs/management.log", '"dataset"'):
        assert told in unpacked
