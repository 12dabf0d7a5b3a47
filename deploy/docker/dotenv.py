"""Make .env for docker-compose.yml, with passwords of its own, where there is none. Standard library alone."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

DOTENV = Path(__file__).resolve().parents[2] / ".env"
SECRETS = ("HEARTH_REDIS_PASSWORD", "HEARTH_S3_ACCESS_KEY", "HEARTH_S3_SECRET_KEY", "HEARTH_GRAFANA_PASSWORD")


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU whose driver answers."""
    program = shutil.which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True, check=False).returncode == 0


def content(device: str) -> str:
    """A new file's lines."""
    lines = [
        "# Made by `make compose-up`; yours to change. docs/install.md tells more.",
        "# cpu or gpu; the S3 server, minio or seaweedfs; Prometheus and Grafana",
        f"COMPOSE_PROFILES={device},minio,monitoring",
        "COMPOSE_PROJECT_NAME=hearth",
        *(f"{name}={secrets.token_hex(20)}" for name in SECRETS),
    ]
    return "\n".join(lines) + "\n"


def make(path: Path = DOTENV) -> bool:
    """Write it for its owner alone; False, with nothing changed, where it is there already."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as out:
        out.write(content("gpu" if has_gpu() else "cpu"))
    return True


if __name__ == "__main__":
    if make():
        print(f"made {DOTENV} with new passwords")
