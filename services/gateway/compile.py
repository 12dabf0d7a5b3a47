"""Make machine code of the gateway's token path: `python services/gateway/compile.py FOLDER [PYTHON]`.

Needs mypy, setuptools, a C compiler and Python's headers. PYTHON is the interpreter of the environment that the gateway
runs in, where that is another than this one. What is made appears whole in a folder of FOLDER that is called after the
source it was made of; the newest few stay, since a gateway may be starting with them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Distribution

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[1] / "pyproject.toml"
KEPT = 3
NAME = (
    "import hearth_gateway as g; from hearth_gateway.compiled import digest, installed; from pathlib import Path; "
    "print(digest(installed(Path(g.__file__).parent)))"
)


def main(root: Path, python: str = sys.executable) -> None:
    """Compile into a folder of `root`. Raises SystemExit where the compiler fails."""
    sys.path.insert(0, str(HERE))
    from hearth_gateway.compiled import MODULES

    source = {**os.environ, "HEARTH_COMPILED": ""}
    name = subprocess.run([python, "-c", NAME], env=source, capture_output=True, text=True, check=True).stdout.strip()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=root) as scratch:
        made = Path(scratch) / "made"
        files = [str(HERE / "hearth_gateway" / f"{module}.py") for module in MODULES]
        options = ["--config-file", str(CONFIG), "--python-executable", python]
        extensions = mypycify([*options, *files], opt_level="3", target_dir=scratch)
        distribution = Distribution({"name": "hearth-gateway", "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(made), scratch
        distribution.run_command("build_ext")
        shutil.rmtree(root / name, ignore_errors=True)
        made.rename(root / name)
    older = sorted((each for each in root.iterdir() if each.name[0] != "."), key=lambda each: each.stat().st_mtime)
    for folder in older[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
