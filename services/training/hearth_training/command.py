"""How the trainer is started: one process, or one for each GPU of the machine."""

import os
import subprocess
from pathlib import Path

from hearth_contracts.hyperparameters import Hyperparameters

SECRETS = ("HEARTH_REDIS_URL", "HEARTH_S3_ACCESS_KEY", "HEARTH_S3_SECRET_KEY", "HF_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS")


def trainer_command(python: Path, spec: Path, processes: int) -> list[str]:
    """The command line. Several processes are torchrun's, which ends them all when one fails."""
    if processes == 1:
        return [str(python), "-m", "hearth_trainer", str(spec)]
    launcher = [str(python), "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launcher, "-m", "hearth_trainer", str(spec)]


def trainer_env() -> dict[str, str]:
    """This process's environment without what the trainer has no use for."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


def processes_for(settings: Hyperparameters, gpus: int) -> int:
    """As many processes as there are GPUs, but no more than the batch can be split among evenly."""
    passes = settings.gradient_accumulation_steps or 1
    return max(count for count in range(1, max(gpus, 1) + 1) if settings.batch_size % (count * passes) == 0)


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
