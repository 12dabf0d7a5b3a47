"""The root file system of the light images: a Python runs in it, and there is nothing else."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

RUNTIME = Path(__file__).resolve().parents[1] / "runtime.py"


def inside(root: Path) -> list[str]:
    """The words before a command that is to see this root: as root, or as a user who may have a namespace."""
    program = shutil.which("unshare")
    assert program, "this test needs unshare (on Debian: apt install util-linux)"
    mine = [program, f"--root={root}"]
    python = str(Path(sys.executable).resolve())
    alone = subprocess.run([*mine, python, "-c", ""], capture_output=True, check=False).returncode == 0
    return mine if alone else [program, "--map-root-user", f"--root={root}"]


def test_all_of_python_loads_in_it_and_it_has_no_shell(tmp_path: Path) -> None:
    root, environment = tmp_path / "root", tmp_path / "environment"
    venv.create(environment, symlinks=True)
    made = subprocess.run([sys.executable, RUNTIME, root, environment], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    modules = sorted(path.name.partition(".")[0] for path in root.rglob("lib-dynload/*.so"))
    assert "_ssl" in modules
    code = (
        f"import importlib, pwd, ssl\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(pwd.getpwuid(10001).pw_name, ssl.create_default_context().cert_store_stats()['x509_ca'])"
    )
    python = str(Path(sys.executable).resolve())
    done = subprocess.run([*inside(root), python, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    user, authorities = done.stdout.split()
    assert user == "hearth"
    assert int(authorities) > 50
    programs = [path for path in root.rglob("*bin/*") if path.is_file() and not path.is_symlink()]
    assert [path.name for path in programs] == [Path(python).name]


def test_a_bad_command_line_is_answered_with_the_usage(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, RUNTIME, tmp_path / "root"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "runtime.py ROOT ENVIRONMENT" in done.stderr
