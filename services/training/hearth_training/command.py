"""How the trainer is started: one process, one for each GPU of the machine, or a driver on a Ray cluster."""

import os
import subprocess
from pathlib import Path

from hearth_training.config import TrainingSettings

SECRETS = ("HEARTH_REDIS_URL", "HEARTH_S3_ACCESS_KEY", "HEARTH_S3_SECRET_KEY", "HF_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS")


def trainer_command(python: Path, spec: Path, processes: int) -> list[str]:
    """The command line. Several processes are torchrun's, which ends them all when one fails."""
    if processes == 1:
        return [str(python), "-m", "hearth_trainer", str(spec)]
    return [str(python), "-m", "hearth_trainer.together", str(processes), str(spec)]


def ray_command(settings: TrainingSettings, spec: Path) -> list[str]:
    """The same for a run on a Ray cluster: a driver, which knows Ray's own variables as well."""
    gpus = settings.ray_gpus_per_worker
    return [
        str(settings.trainer_python.absolute()), "-m", "hearth_trainer.on_ray", settings.ray_address, str(spec),
        str(settings.ray_patience), *([] if gpus is None else [str(gpus)]),
    ]  # fmt: skip


def trainer_env() -> dict[str, str]:
    """This process's environment without what the trainer has no use for."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


def gpus_here() -> int:
    """How many NVIDIA GPUs this process may use; none where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(found.stdout.splitlines())
