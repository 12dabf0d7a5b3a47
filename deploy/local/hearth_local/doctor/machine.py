"""Checks of the machine: what must be there before a platform can start."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions

from hearth_fit.machine import disk_room, gpu_rooms, memory_room

from hearth_local.checks import NEEDED_GIB, NUMA, NUMA_REMEDY, check_ports, lacks_numa
from hearth_local.config import CannotStart
from hearth_local.findings import Finding, fault, ok, warning
from hearth_local.paths import env_python, envs_folder
from hearth_local.platform import Platform
from hearth_local.text import gib

GIB = 2**30
SCARCE_DISK_GIB = 10
PEAK_MEMORY_GIB = 6.5
"""What the whole platform takes at most while the demo runs."""

ENGINES = {
    "training": ("torch", "transformers", "trl", "peft"),
    "vllm": ("torch", "vllm"),
    "infinity": ("torch", "infinity-emb"),
}
NVIDIA_SECONDS = 20


def python(_platform: Platform) -> Iterator[Finding]:
    """The Python that this runs on."""
    yield ok("python", f"{sys.version.split()[0]} in {sys.prefix}")


def environments(platform: Platform) -> Iterator[Finding]:
    """Whether the environments that its programs need are there and whole, and which engines are in them."""
    needed = {name for program in platform.programs for name in program.needs}
    for name in sorted(needed):
        check = f"environment {name}"
        if not env_python(name).exists():
            yield fault(check, f"missing in {envs_folder()}", "run `make setup`")
            continue
        versions = installed(name)
        wanted = ENGINES[name]
        if missing := [package for package in wanted if package not in versions]:
            again = f"remove {envs_folder() / name} and run `make setup`"
            yield fault(check, f"not whole: {', '.join(missing)} is not in it", again)
        elif lacks_numa(name):
            yield fault(check, f"vLLM for the CPU needs {NUMA}, which is not on this machine", NUMA_REMEDY)
        else:
            yield ok(check, ", ".join(f"{package} {versions[package]}" for package in wanted))


def installed(name: str) -> dict[str, str]:
    """The packages in an environment by their normalized names, with their versions. Nothing of it is run."""
    folders = [str(path) for path in (envs_folder() / name / "lib").glob("python*/site-packages")]
    return {re.sub(r"[-_.]+", "-", found.name).lower(): found.version for found in distributions(path=folders)}


def disk(platform: Platform) -> Iterator[Finding]:
    """Room for the data."""
    room = disk_room(platform.home)
    found = f"{gib(room.free)} of {gib(room.total)} free at {platform.home}"
    remedy = "free some, delete models that are not needed, or set HEARTH_HOME to another disk"
    if room.free < NEEDED_GIB * GIB:
        yield fault("disk", f"{found}; it does not start with less than {NEEDED_GIB:.0f} GiB", remedy)
    elif room.free < SCARCE_DISK_GIB * GIB:
        yield warning("disk", f"{found}; models take several GiB each", remedy)
    else:
        yield ok("disk", found)


def memory(platform: Platform) -> Iterator[Finding]:
    """Room to compute in, with what the platform itself has taken counted as had."""
    room = memory_room()
    own = platform.memory_bytes()
    found = f"{gib(room.free)} of {gib(room.total)} free, {gib(own)} taken by Hearth"
    if room.free + own < PEAK_MEMORY_GIB * GIB:
        remedy = "end other programs; small models may fit all the same (`--dry-run` tells)"
        yield warning(
            "memory", f"{found}; a small base with an adapter in training peaks at {PEAK_MEMORY_GIB} GiB", remedy
        )
    else:
        yield ok("memory", found)


def gpu(_platform: Platform) -> Iterator[Finding]:
    """Whether there is a GPU, whether its driver answers, and whether the engines are built for it."""
    if shutil.which("nvidia-smi") is None:
        yield ok("gpu", "no NVIDIA driver on this machine: engines run on the CPU")
        return
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SECONDS, check=False)
        said, failed = (asked.stdout or asked.stderr).strip(), asked.returncode != 0
    except subprocess.TimeoutExpired:
        said, failed = f"it did not answer in {NVIDIA_SECONDS} s", True
    if failed:
        remedy = (
            "install the driver that fits the kernel, or reboot after its update; without it engines run on the CPU"
        )
        yield fault("gpu", f"nvidia-smi fails: {said.splitlines()[-1] if said else 'without a word'}", remedy)
        return
    if not gpu_rooms():
        remedy = "look at the driver's installation: nvidia-smi answers, its library (NVML) does not"
        yield fault("gpu", f"no GPU can be reached: {said}", remedy)
        return
    yield ok("gpu", "; ".join(said.splitlines()))
    for name in ("training", "vllm", "infinity"):
        build = installed(name).get("torch", "")
        if build.endswith("+cpu"):
            remedy = f"remove {envs_folder() / name} and run `make setup`, which takes the GPU build"
            yield warning("gpu", f"environment {name} has torch {build}, which does not use it", remedy)


def secrets_file(platform: Platform) -> Iterator[Finding]:
    """Whether the passwords are for their owner alone."""
    path = platform.config.run / "secrets.env"
    if not path.exists():
        yield ok("secrets", "none yet; `hearth up` makes them")
        return
    status = path.stat()
    mode = status.st_mode & 0o777
    if mode & 0o077:
        yield fault("secrets", f"{path} may be read by others (mode {mode:o})", f"chmod 600 {path}")
    elif status.st_uid != os.getuid():
        yield fault("secrets", f"{path} belongs to user {status.st_uid}", f"chown {os.getuid()} {path}")
    else:
        yield ok("secrets", f"{path} is for its owner alone")


def ports(platform: Platform) -> Iterator[Finding]:
    """Whether every port can be had."""
    names = {program.port for program in platform.programs if program.port}
    try:
        check_ports(platform.config.ports, names)
    except CannotStart as reason:
        found, _, remedy = str(reason).partition("; ")
        yield fault("ports", found, remedy)
    else:
        yield ok("ports", ", ".join(f"{name} {platform.config.ports[name]}" for name in sorted(names)) + " are free")
