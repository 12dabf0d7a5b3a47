"""What a platform is set to, and what its processes get to see."""

from pathlib import Path

import pytest
from hearth_jobs.guard import MARK
from hearth_local.__main__ import app
from hearth_local.checks import check_ports, check_socket_path
from hearth_local.config import DEFAULT_PORTS, CannotStart, Config, Ports, load_secrets, process_environment
from typer.testing import CliRunner


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    config = Config(tmp_path, Ports.free())
    made = load_secrets(config)
    assert load_secrets(config) == made
    assert len({made.redis_password, made.s3_access_key, made.s3_secret_key}) == 3
    (path,) = (tmp_path / "run").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_secrets_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "secrets.env").write_text("redis_password=x\n")
    with pytest.raises(CannotStart, match=r"secrets.env has no s3_access_key, s3_secret_key"):
        load_secrets(Config(tmp_path, Ports.free()))


def test_programs_get_settings_and_the_way_out_but_not_all_the_callers_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HEARTH_LLM_NAME", "https_proxy", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", MARK):
        monkeypatch.setenv(name, "given")
    monkeypatch.setenv("NO_PROXY", "intranet")
    config = Config(tmp_path, Ports.free(), {"HF_ENDPOINT": "http://127.0.0.1:1"})
    environment = process_environment(config, load_secrets(config))
    assert {environment[name] for name in ("HF_TOKEN", "HEARTH_LLM_NAME", "https_proxy")} == {"given"}
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} & environment.keys()
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"  # our own addresses never go through a proxy
    assert environment["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert environment[MARK].split() == ["given", config.mark]
    assert environment["HEARTH_MANAGEMENT_URL"].endswith(environment["HEARTH_MANAGEMENT_PORT"])


def test_homes_are_told_apart(tmp_path: Path) -> None:
    assert Config(tmp_path / "a", Ports.free()).mark != Config(tmp_path / "b", Ports.free()).mark


@pytest.mark.parametrize("text", ["none", "0", "70000", "-1"])
def test_a_port_that_is_none_is_said_in_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_GATEWAY_PORT", text)
    with pytest.raises(CannotStart, match=f"HEARTH_GATEWAY_PORT={text} is no port"):
        Config.from_environment()


def test_two_of_ours_on_one_port_are_noticed() -> None:
    free = Ports.free()["s3"]
    ports = Ports.of({**DEFAULT_PORTS, "dataset": free, "s3": free})
    with pytest.raises(CannotStart, match=rf"port {free} \(s3\) is the port of dataset too; .*HEARTH_S3_PORT="):
        check_ports(ports, {"dataset", "s3"})


def test_a_path_too_long_for_a_socket_is_refused_before_the_kernel_does() -> None:
    check_socket_path(Path("/" + "h" * 98))
    with pytest.raises(CannotStart, match="HEARTH_HOME"):
        check_socket_path(Path("/" + "h" * 99))


def test_status_of_nothing_says_so_and_exits_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, ["status"])
    assert (result.exit_code, result.stdout) == (3, "Hearth is down; `make up` starts it\n")
    assert CliRunner().invoke(app, ["down"]).exit_code == 0
    assert CliRunner().invoke(app, ["logs"]).exit_code == 1
    assert not (tmp_path / "home").exists()
