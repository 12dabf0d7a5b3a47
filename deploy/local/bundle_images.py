"""The container images of a bundle: those of the compose project that this checkout has on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from setup_envs import CHECKOUT, SetupFailed

FILE = "images.tar"
"""Beside the wheels; `docker load` takes it."""
COMPOSE = (sys.executable, str(CHECKOUT / "deploy" / "docker" / "compose.py"))


def project_images() -> list[str]:
    """What the project's containers were made of, whether they run or not. Raises SetupFailed."""
    containers = _said(*COMPOSE, "ps", "--all", "--quiet").split()
    if not containers:
        raise SetupFailed(
            "the compose project has no containers, so nothing tells which images: `make compose-up` first"
            " (or `docker compose up --no-start`)"
        )
    return sorted(set(_said("docker", "inspect", "--format", "{{.Config.Image}}", *containers).split()))


def save(images: list[str], file: Path) -> None:
    """Write these images into one tar; layers that they share are in it once. Raises SetupFailed."""
    _said("docker", "save", "--output", str(file), *images)


def _said(*words: str) -> str:
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupFailed(f"{' '.join(words[:3])}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
