"""Make environments: `python3 deploy/local/setup_envs.py platform training vllm infinity models`.

Runs on a bare Python 3.11 or newer, so it uses the standard library alone. Each environment is installed from its
hash-locked file and stamped when it is whole; a stamped one is left alone, so a second run takes no time. A failed
install leaves no stamp, one line that says what failed, and a log.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bundled
import pip_settings

CHECKOUT = Path(__file__).resolve().parents[2]
ENVS = Path(os.environ.get("HEARTH_ENVS") or CHECKOUT / ".envs").absolute()
HERE = Path("deploy/local")
ENGINE_PYTHON = "3.11"  # the locks are compiled for it, and torch's CPU build is locked for it alone
LIGHT = ("platform", "dev")
GATEWAY = Path("services/gateway")
COMPILED = ENVS / "compiled"
COMPILE_FAILED = ENVS / "compiled.failed"
NOT_COMPILED = "  the gateway is not compiled, and takes up to half more of the processor"
NEEDED_MIB = {
    "platform": 400,
    "dev": 850,
    "training": 1300,
    "ray": 1500,
    "vllm": 2600,
    "infinity": 1300,
    "models": 400,
    "clients": 500,
    "helm": 80,
}
"""Disk for each environment without a GPU, measured. Links between them and the installer's cache may save half."""
NEEDED_MIB_GPU = {"training": 9000, "ray": 9200, "vllm": 15_200, "infinity": 9000}
"""With a GPU's builds of torch; estimated from the sizes of their wheels."""
STAMP = ".hearth-stamp"
FORMAT = "2"  # raise it when environments must be made anew though their locks are the same
TOLD_EVERY_SECONDS = 30


class SetupFailed(Exception):
    """An environment could not be made; the message is the one line to print."""


@dataclass(frozen=True)
class Environment:
    """One environment: where its lock is, and which of our own packages go into it."""

    name: str
    cpu_lock: Path
    gpu_lock: Path
    projects: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()  # what the engine's CPU build needs beside it: built here, for machines without a GPU
    is_data: bool = False  # a plain folder of packages that carry files; nothing is imported from it

    @property
    def home(self) -> Path:
        """Where it lies."""
        return ENVS / self.name

    @property
    def log(self) -> Path:
        """What its last install printed."""
        return ENVS / f"{self.name}.log"


@dataclass(frozen=True)
class Installer:
    """What every install needs: uv, what to tell it, and the kind of machine."""

    uv: Path
    settings: dict[str, str]
    gpu: bool

    def run(self, environment: Environment, command: Sequence[str | Path], cwd: Path = CHECKOUT) -> bool:
        """Run a step of an install; everything it prints goes to the environment's log."""
        return run(command, environment.log, self.settings, cwd)


def environments() -> dict[str, Environment]:
    """Every environment by name."""
    ours = sorted(path.parent.relative_to(CHECKOUT) for path in CHECKOUT.glob("libs/*/pyproject.toml"))
    ours += sorted(path.parent.relative_to(CHECKOUT) for path in CHECKOUT.glob("services/*/pyproject.toml"))
    light = (*ours, HERE)
    trainer, engines = Path("services/training/trainer"), Path("services/inference/engines")
    vllm = engines / "vllm"
    made = [
        Environment("platform", HERE / "platform.lock", HERE / "platform.lock", light),
        Environment("dev", HERE / "dev.lock", HERE / "dev.lock", light),
        Environment("training", trainer / "cpu.lock", trainer / "gpu.lock", (Path("libs/contracts"), trainer)),
        Environment("ray", trainer / "ray-cpu.lock", trainer / "ray-gpu.lock", (Path("libs/contracts"), trainer)),
        Environment("vllm", vllm / "cpu.lock", vllm / "gpu.lock", beside=(vllm / "cpu_alias", vllm / "cpu_mend")),
        Environment("infinity", engines / "infinity/cpu.lock", engines / "infinity/gpu.lock"),
        Environment("clients", HERE / "clients.lock", HERE / "clients.lock"),
        Environment("models", HERE / "models.lock", HERE / "models.lock", is_data=True),
        Environment("helm", HERE / "helm.lock", HERE / "helm.lock", is_data=True),
    ]
    return {environment.name: environment for environment in made}


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU whose driver answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def lock_of(environment: Environment, gpu: bool) -> Path:
    """The lock for this machine."""
    return CHECKOUT / (environment.gpu_lock if gpu else environment.cpu_lock)


def stamp_of(environment: Environment, gpu: bool) -> tuple[str, str]:
    """What the environment is made from: the lock's part, which asks for a new one, and our own packages'."""
    base = hashlib.sha256(f"{FORMAT} {ENGINE_PYTHON} {ENVS}".encode())
    base.update(lock_of(environment, gpu).read_bytes())
    own = hashlib.sha256(str(CHECKOUT).encode())
    for project in environment.projects:
        own.update((CHECKOUT / project / "pyproject.toml").read_bytes())
    for project in environment.beside:  # not editable: each file counts
        for path in sorted(path for suffix in ("py", "toml") for path in (CHECKOUT / project).rglob(f"*.{suffix}")):
            own.update(path.read_bytes())
    return base.hexdigest(), own.hexdigest()


def found_stamp(environment: Environment) -> tuple[str, ...]:
    """The stamp it has; empty when it is not there, not whole, or its Python has gone from the machine."""
    stamp = environment.home / STAMP
    alive = environment.is_data or (environment.home / "bin/python").exists()
    return tuple(stamp.read_text().split()) if alive and stamp.exists() else ()


def run(command: Sequence[str | Path], log: Path, extra_env: dict[str, str], cwd: Path = CHECKOUT) -> bool:
    """Run a command; everything it prints goes to `log`."""
    words = [str(part) for part in command]
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(words)}\n".encode())
        out.flush()
        env = {**os.environ, **extra_env}
        return subprocess.run(words, stdout=out, stderr=out, env=env, cwd=cwd, check=False).returncode == 0


def bootstrap_uv() -> Path:
    """The installer itself, from its own lock, in an environment of its own."""
    lock = CHECKOUT / HERE / "uv.lock"
    home, log = ENVS / "uv", ENVS / "uv.log"
    stamp, want = home / STAMP, hashlib.sha256(lock.read_bytes() + str(ENVS).encode()).hexdigest()
    if not ((home / "bin/python").exists() and stamp.exists() and stamp.read_text() == want):
        shutil.rmtree(home, ignore_errors=True)
        log.unlink(missing_ok=True)
        if not run([sys.executable, "-m", "venv", home], log, {}):
            raise SetupFailed(f"no virtual environment could be made (on Debian: apt install python3-venv); see {log}")
        pip: list[str | Path] = [home / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "-q"]
        source = ("the bundle", bundled.for_pip()) if bundled.read() else ("the package index", [])
        if not run([*pip, *source[1], "--require-hashes", "-r", lock], log, {}):
            raise SetupFailed(f"uv could not be installed from {source[0]}: {last_line(log)}; see {log}")
        stamp.write_text(want)
    return home / "bin/uv"


def make(environment: Environment, installer: Installer) -> str:
    """Make one environment; returns what to print. Raises SetupFailed."""
    began = time.monotonic()
    base, own = stamp_of(environment, installer.gpu)
    has_base = found_stamp(environment)[:1] == (base,)
    environment.log.unlink(missing_ok=True)
    (environment.home / STAMP).unlink(missing_ok=True)
    if not has_base:
        install_lock(environment, installer)
    install_own(environment, installer)
    (environment.home / STAMP).write_text(f"{base}\n{own}\n")
    size = folder_mib(environment.home)
    return f"  {environment.name}: {time.monotonic() - began:.0f} s, {size:,.0f} MiB"


def install_lock(environment: Environment, installer: Installer) -> None:
    """Everything that its lock names, and nothing else: into a new environment. Raises SetupFailed."""
    name, home, log = environment.name, environment.home, environment.log
    lock = lock_of(environment, installer.gpu)
    install: list[str | Path] = [installer.uv, "pip", "install", "--require-hashes", "--no-deps", "-r", lock]
    shutil.rmtree(home, ignore_errors=True)
    if environment.is_data:
        home.mkdir(parents=True)
        install += ["--target", home, "--python-version", ENGINE_PYTHON]
    else:
        this = sys.executable if f"{sys.version_info[0]}.{sys.version_info[1]}" == ENGINE_PYTHON else ENGINE_PYTHON
        if not installer.run(environment, [installer.uv, "venv", "--python", this, home]):
            raise SetupFailed(
                f"environment {name}: no Python {ENGINE_PYTHON} on this machine, and none could be fetched: "
                f"{last_line(log)}; see {log}"
            )
        install += ["--python", home / "bin/python"]
    if installer.run(environment, install):
        return
    why = last_line(log)
    # Torch's CPU build is where pip is configured to look, or on the index that uv knows for it.
    if (
        installer.gpu
        or "torch==" not in lock.read_text()
        or not installer.run(environment, [*install, "--torch-backend=cpu"])
    ):
        raise SetupFailed(f"environment {name} could not be installed: {why}; see {log}")


def install_own(environment: Environment, installer: Installer) -> None:
    """Our packages, editable; and what goes beside an engine. Raises SetupFailed."""
    name, log = environment.name, environment.log
    where: list[str | Path] = [installer.uv, "pip", "install", "--no-deps", "--python", environment.home / "bin/python"]
    editable = [part for project in environment.projects for part in ("-e", project)]
    if editable and not installer.run(environment, [*where, "--no-build-isolation", *editable]):
        raise SetupFailed(f"environment {name}: our own packages do not install: {last_line(log)}; see {log}")
    if not environment.beside or installer.gpu:
        return
    # Built by a light environment's hatchling, which is locked; a build of its own would fetch any.
    out = ENVS / "beside"
    shutil.rmtree(out, ignore_errors=True)
    hatchling = next(ENVS / light / "bin/hatchling" for light in LIGHT if (ENVS / light / STAMP).exists())
    for project in environment.beside:
        if not installer.run(environment, [hatchling, "build", "-t", "wheel", "-d", out], CHECKOUT / project):
            raise SetupFailed(f"environment {name}: {project} is not built: {last_line(log)}; see {log}")
    if not installer.run(environment, [*where, "--reinstall", *out.glob("*.whl")]):
        raise SetupFailed(f"environment {name}: what goes beside it is not installed: {last_line(log)}; see {log}")


def gateway_to_compile() -> str | None:
    """What machine code of the gateway's token path is to be made of; None where it is there, or cannot be made.

    A failure is remembered until the source, the compiler or Python's headers are others.
    """
    about = importlib.util.spec_from_file_location("compiled", CHECKOUT / GATEWAY / "hearth_gateway/compiled.py")
    assert about is not None and about.loader is not None
    compiled = importlib.util.module_from_spec(about)
    about.loader.exec_module(compiled)
    packages = [CHECKOUT / "libs" / name.removeprefix("hearth_") / name for name in compiled.AGAINST]
    tag = f"cpython-{ENGINE_PYTHON.replace('.', '')}"
    digest = str(compiled.digest([CHECKOUT / GATEWAY / "hearth_gateway", *packages], tag))
    if (compiler := shutil.which("cc")) is None or (COMPILED / digest).is_dir():
        return None
    source = f"{digest} {compiler} {Path(sysconfig.get_path('include'), 'Python.h').exists()}"
    return None if COMPILE_FAILED.exists() and COMPILE_FAILED.read_text() == source else source


def compile_gateway(source: str, installer: Installer) -> str:
    """Make it; returns what to print. Without it the source is run."""
    began, log, known = time.monotonic(), COMPILED.with_suffix(".log"), environments()
    log.unlink(missing_ok=True)
    fresh = (name for name in LIGHT if found_stamp(known[name]) == stamp_of(known[name], installer.gpu))
    light = next(fresh, LIGHT[0])
    command = [ENVS / light / "bin/python", CHECKOUT / GATEWAY / "compile.py", COMPILED]
    if run(command, log, installer.settings):
        return f"  the gateway, compiled: {time.monotonic() - began:.0f} s"
    COMPILE_FAILED.write_text(source)
    return f"{NOT_COMPILED}: {last_line(log)}; see {log}"


def last_line(log: Path) -> str:
    """The line of a log that says why."""
    printed = [line for line in log.read_text(errors="replace").splitlines() if not line.startswith("$ ")]
    lines = [line for line in (re.sub(r"^\W+", "", line) for line in printed) if line]  # less uv's ornaments
    telling = [line for line in lines if "error" in line.lower() or "caused by" in line.lower()]
    return (telling or lines or ["it printed nothing"])[-1][:300]


def folder_mib(folder: Path) -> float:
    """What a folder takes on the disk; files that it shares with others are counted."""
    seen: dict[int, int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(root, name))  # noqa: PTH118 - twice as fast for 60,000 files
            seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values()) / 2**20


def check_room(missing: list[Environment], gpu: bool) -> None:
    """Refuse to begin what cannot end. Raises SetupFailed with the numbers."""
    sizes = {**NEEDED_MIB, **NEEDED_MIB_GPU} if gpu else NEEDED_MIB
    needed = sum(sizes[environment.name] for environment in missing) / 1024
    free = shutil.disk_usage(ENVS).free / 2**30
    if free < needed:
        raise SetupFailed(
            f"{ENVS} has {free:.1f} GiB free; {needed:.1f} GiB are needed for {names_of(missing)}. "
            "Free some, or set HEARTH_ENVS to another disk"
        )


def names_of(some: Sequence[Environment]) -> str:
    """Their names, for people."""
    return ", ".join(environment.name for environment in some)


def make_all(missing: list[Environment], source: str | None, gpu: bool) -> None:
    """Make these: the light ones first, since they bring what the others are built with. Raises SetupFailed.

    Beside them the gateway is compiled, where there is a `source` for that.
    """
    uv = bootstrap_uv()
    settings = bundled.for_uv() if bundled.read() else pip_settings.for_uv([Path(sys.executable), uv.parent / "python"])
    installer = Installer(uv, settings, gpu)
    for environment in [each for each in missing if each.name in LIGHT]:
        print(make(environment, installer), flush=True)
    # Downloads overlap; the linking of files does not profit from more.
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        waiting = {pool.submit(make, each, installer): each.name for each in missing if each.name not in LIGHT}
        if source is not None:
            waiting[pool.submit(compile_gateway, source, installer)] = "the gateway, compiled"
        began = time.monotonic()
        while waiting:
            done, _ = concurrent.futures.wait(waiting, TOLD_EVERY_SECONDS, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                del waiting[future]
                print(future.result(), flush=True)
            if not done:
                left = ", ".join(waiting.values())
                print(f"  ... {time.monotonic() - began:.0f} s, still installing {left}", flush=True)


def set_up(names: list[str], *, gateway: bool = False) -> None:
    """Make what is missing of these environments, and of the compiled `gateway`. Raises SetupFailed."""
    known, gpu = environments(), has_gpu()
    wanted = [known[name] for name in names]
    if not any(light in names or found_stamp(known[light]) for light in LIGHT):
        wanted.insert(0, known["platform"])
    if all(found_stamp(each) == stamp_of(each, gpu) for each in wanted) and not (gateway and gateway_to_compile()):
        return
    about = bundled.read()
    if about and (reason := bundled.why_not(about, [each.name for each in wanted], gpu)):
        raise SetupFailed(reason)
    ENVS.mkdir(parents=True, exist_ok=True)
    with (ENVS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another set-up to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [each for each in wanted if found_stamp(each) != stamp_of(each, gpu)]
        source = gateway_to_compile() if gateway else None
        if not missing and source is None:
            return
        check_room([each for each in missing if found_stamp(each)[:1] != stamp_of(each, gpu)[:1]], gpu)
        began = time.monotonic()
        print(
            f"Setting up {names_of(missing) or 'the gateway'} in {ENVS} for a machine with{'' if gpu else 'out'} a GPU",
            flush=True,
        )
        make_all(missing, source, gpu)
        if gateway and shutil.which("cc") is None:
            print(f"{NOT_COMPILED}: there is no C compiler (on Debian: apt install gcc libc6-dev python3-dev)")
        print(f"Set up in {time.monotonic() - began:.0f} s")


def main() -> int:
    """Make what is missing of the environments named on the command line."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it may be run by any Python there is
        print(f"setup: Python 3.11 or newer is needed; this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(description="make Hearth's environments")
    parser.add_argument("names", nargs="+", choices=sorted(environments()))
    parser.add_argument("--gateway", action="store_true", help="compile the gateway's token path, too")
    chosen = parser.parse_args()
    try:
        set_up(chosen.names, gateway=chosen.gateway)
    except SetupFailed as failure:
        print(f"setup: {failure}", file=sys.stderr)
        return 1
    except OSError as failure:
        print(f"setup: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        COMPILE_FAILED.unlink(missing_ok=True)  # the compiler was interrupted with us, if it was at work
        print("setup: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
