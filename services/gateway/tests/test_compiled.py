"""The token path runs as machine code where that was made of the very source that is there, else as that source."""

import shutil
import subprocess
import sys
from pathlib import Path

import hearth_gateway
import pytest
from hearth_gateway.compiled import VARIABLE, digest, installed, prefer_compiled
from hearth_local.paths import envs_folder

PACKAGE = Path(str(hearth_gateway.__file__)).parent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "hearth_gateway"))


def path_with(folder: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The package's path with this setting."""
    monkeypatch.setenv(VARIABLE, folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = [str(package)]
    prefer_compiled(path)
    return path


def test_modules_are_taken_from_the_compiled_ones_until_their_source_changes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "compiled"
    assert path_with(str(folder), source, monkeypatch) == [str(source)]
    made = folder / digest(installed(source)) / "hearth_gateway"
    made.mkdir(parents=True)
    assert path_with(str(folder), source, monkeypatch) == [str(made), str(source)]
    assert path_with("", source, monkeypatch) == [str(source)]
    with (source / "asked.py").open("a") as changed:  # not compiled, but what is has its types
        changed.write("# changed\n")
    assert path_with(str(folder), source, monkeypatch) == [str(source)]


@pytest.mark.parametrize(("setting", "expected"), [("compiled", "True"), ("", "False")])
def test_setting_up_compiled_all_of_them_and_both_ways_run(setting: str, expected: str) -> None:
    program = "import sys, importlib, hearth_gateway.compiled as c\n"
    program += "print({c.is_compiled(importlib.import_module(f'hearth_gateway.{m}')) for m in c.MODULES})"
    environment = {VARIABLE: str(envs_folder() / setting) if setting else ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{{{expected}}}\n"
