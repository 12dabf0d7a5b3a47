"""Which modules of the token path may run as machine code, and whether they do.

`compile.py`, beside this package, has mypyc make them from the very source that is read here. Where that was not done,
or the source has changed since, the source is run: the same, for a third more of the processor.
"""

import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType

MODULES = (
    "door",
    "exchange",
    "heads",
    "ledger",
    "limits",
    "pages",
    "replies",
    "routing",
    "tokens",
    "upstream",
    "usage",
)
"""What a request to a token route passes, less what mypyc cannot have: classes that others look into."""

FOLDER = "HEARTH_COMPILED"
"""The variable that names the folder with the compiled modules; empty: the source is run. Where it is not set they are
looked for in `compiled`, beside the environment."""

STAMP = "sources.sha256"


def digest(package: Path) -> str:
    """Of the source that is compiled."""
    found = hashlib.sha256()
    for name in MODULES:
        found.update((package / f"{name}.py").read_bytes())
    return found.hexdigest()


def use(path: list[str]) -> None:
    """Have the package with this `__path__` take compiled modules first, if they are of its source."""
    named = os.environ.get(FOLDER, str(Path(sys.prefix).parent / "compiled"))
    folder = Path(named)
    stamp = folder / STAMP
    if named and stamp.is_file() and stamp.read_text() == digest(Path(path[0])):
        sys.path.append(str(folder))  # what they share lies there
        path.insert(0, str(folder / "hearth_gateway"))


def is_compiled(module: ModuleType) -> bool:
    """Whether this one runs as machine code."""
    return not str(module.__file__).endswith(".py")
