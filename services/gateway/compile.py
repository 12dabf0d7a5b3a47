"""Make machine code of the gateway's token path: `python services/gateway/compile.py FOLDER [PYTHON]`.

Needs mypy, setuptools, a C compiler and Python's headers. PYTHON is the interpreter of the environment that the gateway
runs in, where that is another than this one. The folder is whole or left as it was.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Distribution

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[1] / "pyproject.toml"
sys.path.insert(0, str(HERE))


def main(folder: Path, python: str = sys.executable) -> None:
    """Compile into `folder`. Raises SystemExit where the compiler fails."""
    from hearth_gateway.compiled import MODULES, STAMP, digest

    package = HERE / "hearth_gateway"
    stamp = digest(package)  # now: it may be edited meanwhile
    with tempfile.TemporaryDirectory(prefix="hearth-compile-") as scratch:
        made = Path(scratch) / "made"
        files = [str(package / f"{name}.py") for name in MODULES]
        options = ["--config-file", str(CONFIG), "--python-executable", python]
        extensions = mypycify([*options, *files], opt_level="3", target_dir=scratch)
        distribution = Distribution({"name": "hearth-gateway", "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(made), scratch  # type: ignore[attr-defined]
        distribution.run_command("build_ext")
        (made / STAMP).write_text(stamp)
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(made, new)
        shutil.rmtree(folder, ignore_errors=True)  # a gateway that starts just now finds none, and runs the source
        new.rename(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
