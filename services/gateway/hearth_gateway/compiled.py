"""Which modules of the token path may run as machine code, and whether they do.

`compile.py`, beside this package, has mypyc make them from the very source that is read here. Where that was not done,
or the source has changed since, the source is run: the same, for up to half more of the processor.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

MODULES = (
    "door",
    "exchange",
    "heads",
    "incoming",
    "ledger",
    "limits",
    "measures",
    "pages",
    "replies",
    "routing",
    "tokens",
    "upstream",
    "usage",
    "writes",
)
"""What a request to a token route passes, less what mypyc cannot have: classes that others look into."""

AGAINST = ("hearth_access", "hearth_contracts", "hearth_jobs", "hearth_telemetry", "hearth_web")
"""The packages of ours whose types are compiled into them."""

VARIABLE = "HEARTH_COMPILED"
"""Names the folder with what was compiled, for one source after the other; empty: the source is run. Where it is not
set that is `compiled`, beside the environment."""

TAG = str(sys.implementation.cache_tag)
"""Which Python an extension module is for, e.g. cpython-311."""


def digest(packages: Iterable[Path], tag: str = TAG) -> str:
    """What the compiled modules of this source are called: of this package's folder, and those of `AGAINST`."""
    found = hashlib.sha256(tag.encode())
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            found.update(
                b"%b %b\n" % (str(path.relative_to(package)).encode(), hashlib.sha256(path.read_bytes()).digest())
            )
    return found.hexdigest()[:32]


def installed(package: Path) -> list[Path]:
    """The folders that `digest` is asked of, as this process would import them."""
    specs = [importlib.util.find_spec(name) for name in AGAINST]
    return [package, *(Path(str(spec.origin)).parent for spec in specs if spec is not None)]


def prefer_compiled(path: list[str]) -> None:
    """Have the package with this `__path__` take compiled modules first, if they are of the source that is there."""
    named = os.environ.get(VARIABLE, str(Path(sys.prefix).parent / "compiled"))
    folder = Path(named, digest(installed(Path(path[0]))))
    if named and (folder / "hearth_gateway").is_dir():
        sys.path.append(str(folder))  # what they share lies there
        path.insert(0, str(folder / "hearth_gateway"))


def is_compiled(module: ModuleType) -> bool:
    """Whether this one runs as machine code."""
    return not str(module.__file__).endswith(".py")
