"""Setting up with an installer that only says what it was asked: what is made, when, and what is said when it fails."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1]

UV = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
case "$*" in
  *{broken}*) echo "  x Failed to fetch: the-index"; echo "  |-> Caused by: tls handshake eof"; exit 2;;
  venv*) for home in "$@"; do :; done; mkdir -p "$home/bin"
    printf '#!/bin/sh\necho "no compiler" >&2; exit 1\n' > "$home/bin/python"; chmod +x "$home/bin/python";;
esac
"""


@pytest.fixture
def setup_envs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module, over a scratch folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("HEARTH_ENVS", str(tmp_path / "envs"))
    spec = importlib.util.spec_from_file_location("setup_envs", FOLDER / "setup_envs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "setup_envs", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    yield module
    sys.modules.pop("pip_settings", None)


@pytest.fixture
def calls(setup_envs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the fake uv writes what it was asked."""
    uv = tmp_path / "uv"
    uv.write_text(UV.replace("{broken}", "nothing-is-broken"))
    uv.chmod(0o755)
    monkeypatch.setattr(setup_envs, "bootstrap_uv", lambda: uv)
    monkeypatch.setattr(setup_envs.pip_settings, "pip_config", lambda _: "")
    return tmp_path / "calls"


def test_what_is_made_is_left_alone(setup_envs: ModuleType, calls: Path) -> None:
    setup_envs.set_up(["platform", "training"])
    made = calls.read_text()
    assert "--require-hashes --no-deps" in made
    assert "-e libs/jobs" in made
    assert "-e services/training/trainer" in made
    setup_envs.set_up(["training", "platform"])
    assert calls.read_text() == made


def test_our_own_packages_change_without_the_rest_being_installed_anew(
    setup_envs: ModuleType, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_envs.set_up(["platform"])
    calls.unlink()
    stamp_of = setup_envs.stamp_of
    monkeypatch.setattr(setup_envs, "stamp_of", lambda *given: (stamp_of(*given)[0], "other"))
    setup_envs.set_up(["platform"])
    assert "--require-hashes" not in calls.read_text()
    assert "-e libs/jobs" in calls.read_text()


def test_another_lock_makes_it_anew_so_that_nothing_old_stays(
    setup_envs: ModuleType, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_envs.set_up(["platform"])
    old = setup_envs.ENVS / "platform" / "old"
    old.touch()
    stamp_of = setup_envs.stamp_of
    monkeypatch.setattr(setup_envs, "stamp_of", lambda *given: ("other", stamp_of(*given)[1]))
    setup_envs.set_up(["platform"])
    assert not old.exists()


def test_an_environment_whose_python_has_gone_is_made_anew(setup_envs: ModuleType, calls: Path) -> None:
    setup_envs.set_up(["platform"])
    python = setup_envs.ENVS / "platform" / "bin" / "python"
    python.unlink()
    setup_envs.set_up(["platform"])
    assert python.exists()


def test_a_failure_is_one_line_with_name_cause_and_log_and_is_tried_again(
    setup_envs: ModuleType, calls: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = calls.with_name("uv")
    uv.write_text(UV.replace("{broken}", "models.lock"))
    monkeypatch.setattr(sys, "argv", ["setup_envs.py", "platform", "models"])
    assert setup_envs.main() == 1
    log = setup_envs.ENVS / "models.log"
    said = capsys.readouterr().err
    assert said == f"setup: environment models could not be installed: Caused by: tls handshake eof; see {log}\n"
    uv.write_text(UV.replace("{broken}", "nothing-is-broken"))
    calls.unlink()
    assert setup_envs.main() == 0
    assert "platform.lock" not in calls.read_text()
    assert "models.lock" in calls.read_text()


def test_a_gateway_that_cannot_be_compiled_is_no_failure_and_is_tried_again_with_another_compiler(
    setup_envs: ModuleType, calls: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_envs.shutil, "which", lambda _: None)
    setup_envs.set_up(["platform"], gateway=True)
    assert "there is no C compiler (on Debian: apt install gcc" in capsys.readouterr().out
    monkeypatch.setattr(setup_envs.shutil, "which", lambda name: f"/usr/bin/{name}")
    setup_envs.set_up(["platform"])
    assert capsys.readouterr().out == ""
    setup_envs.set_up(["platform"], gateway=True)
    said = f"{setup_envs.NOT_COMPILED}: no compiler; see {setup_envs.ENVS / 'compiled.log'}\n"
    assert said in capsys.readouterr().out
    setup_envs.set_up(["platform"], gateway=True)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(setup_envs.shutil, "which", lambda name: f"/opt/bin/{name}")
    setup_envs.set_up(["platform"], gateway=True)
    assert said in capsys.readouterr().out


def test_torch_is_looked_for_where_uv_knows_it_when_pip_knows_no_place(setup_envs: ModuleType, calls: Path) -> None:
    uv = calls.with_name("uv")
    uv.write_text(UV.replace("*{broken}*) echo", "*torch-backend=cpu*) ;; *infinity/cpu.lock*) echo"))
    setup_envs.set_up(["platform", "infinity"])
    assert any(call.endswith("--torch-backend=cpu") for call in calls.read_text().splitlines())


def test_too_little_room_is_said_in_numbers_before_anything_is_fetched(
    setup_envs: ModuleType, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = setup_envs.shutil.disk_usage("/")
    monkeypatch.setattr(setup_envs.shutil, "disk_usage", lambda _: usage._replace(free=2**30))
    with pytest.raises(setup_envs.SetupFailed, match=r"has 1\.0 GiB free; \d\.\d GiB are needed for platform, vllm"):
        setup_envs.set_up(["platform", "vllm"])
    assert not calls.exists()


def test_every_lock_is_hashed_and_names_no_address(setup_envs: ModuleType) -> None:
    for environment in setup_envs.environments().values():
        for lock in {setup_envs.lock_of(environment, gpu) for gpu in (False, True)}:
            text = lock.read_text()
            assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(re.findall(r"^\S+==.*\\$", text, re.MULTILINE))
            assert "://" not in text
            assert "--find-links" not in text


def test_pips_settings_are_handed_on_the_stronger_over_the_weaker(setup_envs: ModuleType) -> None:
    listed = "\n".join(
        (
            ":env:.index-url='https://mirror.example/env'",
            "global.cert='/etc/certs.pem'",
            "global.extra-index-url='https://a.example/simple\\nfile:///srv/simple'",
            "global.find-links='/srv/wheels'",
            "global.index-url='https://mirror.example/global'",
            "global.trusted-host='mirror.example'",
            "list.format='columns'",
        )
    )
    assert setup_envs.pip_settings.as_uv_reads_it(listed, {"SSL_CERT_FILE": "/mine.pem"}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/env",
        "UV_INDEX": "https://a.example/simple file:///srv/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/srv/wheels",
        "UV_INSECURE_HOST": "mirror.example",
    }
