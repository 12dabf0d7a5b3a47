"""What goes into a service's image: its own packages, and the third-party ones that they name.

    image.py requirements SERVICE           the .in file of the service's lock, on standard output
    image.py install LOCK ENVIRONMENT       a virtual environment, and what the lock names in it
    image.py own SERVICE ENVIRONMENT        the service and our libraries that it needs, as wheels, into it

SERVICE is a folder such as services/gateway. Runs where nothing is installed yet: standard library alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOCAL = CHECKOUT / "deploy" / "local"
OURS = "hearth-"
INSTALLER = Path("/opt/uv")
"""Where the build stage puts uv; it stays out of the image."""


def dependencies(project: Path) -> list[str]:
    """What a project's pyproject.toml asks for."""
    found = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return list(found["project"]["dependencies"])


def closure(service: Path) -> list[Path]:
    """The folders of the service and of every library of ours that it needs, itself first."""
    found = [service]
    for project in found:  # it grows while we look
        for name in dependencies(project):
            library = CHECKOUT / "libs" / name.removeprefix(OURS)
            if name.startswith(OURS) and library not in found:
                found.append(library)
    return found


def requirements(service: Path) -> list[str]:
    """The third-party packages that the closure names."""
    names = {name for project in closure(service) for name in dependencies(project)}
    return sorted(name for name in names if not name.startswith(OURS))


def run(*command: str | Path) -> bool:
    """Run one command with what pip is set to on this machine, as uv reads it; True when it succeeded."""
    settings = [sys.executable, LOCAL / "pip_settings.py"]
    return subprocess.run([str(word) for word in [*settings, *command]], cwd=CHECKOUT, check=False).returncode == 0


def uv() -> Path:
    """The installer, from its own lock."""
    program = INSTALLER / "bin" / "uv"
    if not program.exists():
        lock = LOCAL / "uv.lock"
        if not (
            run(sys.executable, "-m", "venv", INSTALLER)
            and run(INSTALLER / "bin/pip", "install", "--quiet", "--require-hashes", "-r", lock)
        ):
            raise SystemExit("uv could not be installed from the package index")
    return program


def install(lock: Path, environment: Path) -> None:
    """Everything that the lock names, each file with its hash, and nothing else."""
    python = environment / "bin" / "python"
    if not run(uv(), "venv", "--quiet", "--python", sys.executable, environment):
        raise SystemExit(f"{environment} could not be made")
    words: list[str | Path] = [uv(), "pip", "install", "--quiet", "--python", python, "--link-mode", "copy"]
    words += ["--compile-bytecode", "--require-hashes", "--no-deps", "-r", lock]
    # torch's CPU build is where pip is configured to look, or on the index that uv knows for it
    if not (run(*words) or ("+cpu" in lock.read_text() and run(*words, "--torch-backend=cpu"))):
        raise SystemExit(f"{lock} could not be installed")


def own(service: Path, environment: Path) -> None:
    """Our packages as wheels; what builds them comes from the light environment's lock."""
    with tempfile.TemporaryDirectory() as wheels:
        for project in closure(service):
            locked: list[str | Path] = ["--build-constraints", LOCAL / "platform.lock", "--require-hashes"]
            if not run(uv(), "build", "--quiet", "--wheel", *locked, "--out-dir", wheels, project):
                raise SystemExit(f"{project} could not be built")
        made = sorted(Path(wheels).glob("*.whl"))
        python = environment / "bin" / "python"
        if not run(uv(), "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", python, *made):
            raise SystemExit(f"{service} could not be installed")


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["requirements", service]:
            print("\n".join(requirements(CHECKOUT / service)))
        case ["install", lock, environment]:
            install(CHECKOUT / lock, Path(environment))
        case ["own", service, environment]:
            own(CHECKOUT / service, Path(environment))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
