"""Where the checkout and its environments are."""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def envs_folder() -> Path:
    """The folder of the environments (HEARTH_ENVS)."""
    return Path(os.environ.get("HEARTH_ENVS") or CHECKOUT / ".envs").absolute()


def env_python(name: str) -> Path:
    """The Python of an environment."""
    return envs_folder() / name / "bin" / "python"


def light_binary(name: str) -> str:
    """A program that the light environment carries."""
    return str(Path(sys.executable).parent / name)
