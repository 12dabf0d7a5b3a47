"""Make environments: `python3 deploy/local/setup_envs.py platform training vllm infinity models`.

Runs on a bare Python 3.11 or newer, so it uses the standard library alone. Each environment is installed from its
hash-locked file and stamped when it is whole; a stamped one is left alone, so a second run takes no time. A failed
install leaves no stamp, one line that says what failed, and a log.
"""

import argparse
import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENVS = Path(os.environ.get("HEARTH_ENVS", CHECKOUT / ".envs"))
HERE = Path("deploy/local")
ENGINE_PYTHON = "3.11"  # the CPU build of torch is locked for it
LIGHT = ("platform", "dev")
NEEDED_GIB = {"cpu": 6, "gpu": 25}
STAMP = ".hearth-stamp"


class SetupFailed(Exception):
    """An environment could not be made; the message is the one line to print."""


@dataclass(frozen=True)
class Environment:
    """One environment: where its lock is, and which of our own packages go into it."""

    name: str
    cpu_lock: Path
    gpu_lock: Path
    projects: tuple[Path, ...] = ()
    alias: Path | None = None  # a distribution without code, for machines without a GPU
    is_data: bool = False  # a plain folder of packages that carry files; nothing is imported from it

    def lock(self, gpu: bool) -> Path:
        """The lock for this machine."""
        return CHECKOUT / (self.gpu_lock if gpu else self.cpu_lock)


def environments() -> dict[str, Environment]:
    """Every environment by name."""
    libs = [Path("libs") / name for name in ("contracts", "telemetry", "jobs", "storage", "web")]
    services = [Path("services") / name for name in ("gateway", "management", "dataset", "training", "inference")]
    ours = (*libs, *services, HERE)
    trainer, engines = Path("services/training/trainer"), Path("services/inference/engines")
    made = [
        Environment("platform", HERE / "platform.lock", HERE / "platform.lock", ours),
        Environment("dev", HERE / "dev.lock", HERE / "dev.lock", ours),
        Environment("training", trainer / "cpu.lock", trainer / "gpu.lock", (Path("libs/contracts"), trainer)),
        Environment("vllm", engines / "vllm/cpu.lock", engines / "vllm/gpu.lock", alias=engines / "vllm/cpu_alias"),
        Environment("infinity", engines / "infinity/cpu.lock", engines / "infinity/gpu.lock"),
        Environment("models", HERE / "models.lock", HERE / "models.lock", is_data=True),
    ]
    return {environment.name: environment for environment in made}


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU whose driver answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def pip_settings() -> dict[str, str]:
    """What pip is configured with on this machine (mirrors, wheel folders, certificates), as uv's variables.

    Further indexes are safe to mix in, since every file must have the hash that the lock names.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings: dict[str, list[str]] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings.setdefault(key.rpartition(".")[2], []).extend(value.strip("'\"").replace("\\n", " ").split())
    found = {}
    if links := settings.get("find-links"):
        found["UV_FIND_LINKS"] = ",".join(dict.fromkeys(links))
    if index := settings.get("index-url"):
        found["UV_DEFAULT_INDEX"] = index[-1]
    if extra := [url for url in settings.get("extra-index-url", []) if url.startswith("http")]:
        found["UV_INDEX"] = " ".join(dict.fromkeys(extra))
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if (certificates := settings.get("cert")) and "SSL_CERT_FILE" not in os.environ:
        found["SSL_CERT_FILE"] = certificates[-1]
    return {name: value for name, value in found.items() if name not in os.environ}


def stamp_of(environment: Environment, gpu: bool) -> str:
    """What the environment is made from; it is made anew when this changes."""
    digest = hashlib.sha256(environment.lock(gpu).read_bytes())
    digest.update(Path(__file__).read_bytes())
    for project in (*environment.projects, *([environment.alias] if environment.alias else [])):
        digest.update((CHECKOUT / project / "pyproject.toml").read_bytes())
    digest.update(str(CHECKOUT).encode())
    return digest.hexdigest()


def is_made(environment: Environment, gpu: bool) -> bool:
    """Whether the environment is there, whole, and from what is in the checkout now."""
    stamp = ENVS / environment.name / STAMP
    return stamp.exists() and stamp.read_text() == stamp_of(environment, gpu)


def run(command: Sequence[str | Path], log: Path, extra_env: dict[str, str], cwd: Path = CHECKOUT) -> bool:
    """Run a step of an install; everything it prints goes to `log`."""
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        out.flush()
        env = {**os.environ, **extra_env}
        words = [str(part) for part in command]
        return subprocess.run(words, stdout=out, stderr=out, env=env, cwd=cwd, check=False).returncode == 0


def bootstrap_uv() -> Path:
    """The installer itself, from its own lock, in an environment of its own."""
    lock = CHECKOUT / HERE / "uv.lock"
    home = ENVS / "uv"
    stamp, want = home / STAMP, hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == want):
        shutil.rmtree(home, ignore_errors=True)
        log = ENVS / "uv.log"
        made = run([sys.executable, "-m", "venv", home], log, {})
        if not made:
            raise SetupFailed(f"no virtual environment could be made (on Debian: apt install python3-venv); see {log}")
        pip: list[str | Path] = [home / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "-q"]
        if not run([*pip, "--require-hashes", "-r", lock], log, {}):
            raise SetupFailed(f"uv could not be installed from the package index: {last_line(log)}; see {log}")
        stamp.write_text(want)
    return home / "bin/uv"


def make(environment: Environment, uv: Path, gpu: bool, settings: dict[str, str], light: str) -> str:
    """Make one environment; returns what to print. Raises SetupFailed."""
    began = time.monotonic()
    home, log = ENVS / environment.name, ENVS / f"{environment.name}.log"
    log.unlink(missing_ok=True)
    (home / STAMP).unlink(missing_ok=True)
    install: list[str | Path] = [uv, "pip", "install", "--require-hashes", "--no-deps", "-r", environment.lock(gpu)]
    if environment.is_data:
        where: list[str | Path] = ["--target", home, "--python-version", ENGINE_PYTHON]
    else:
        if not (home / "bin/python").exists() and not run([uv, "venv", "--python", ENGINE_PYTHON, home], log, settings):
            raise SetupFailed(f"environment {environment.name}: no Python {ENGINE_PYTHON}; see {log}")
        where = ["--python", home / "bin/python"]
    # Torch's CPU build is where pip is configured to look, or on the index that uv knows for it.
    tries: list[list[str]] = (
        [[]] if gpu or "torch==" not in environment.lock(gpu).read_text() else [[], ["--torch-backend=cpu"]]
    )
    if not any(run([*install, *where, *more], log, settings) for more in tries):
        raise SetupFailed(f"environment {environment.name} could not be installed: {last_line(log)}; see {log}")
    editable = [part for project in environment.projects for part in ("-e", project)]
    if editable and not run(
        [uv, "pip", "install", "--no-deps", "--no-build-isolation", *where, *editable], log, settings
    ):
        raise SetupFailed(f"environment {environment.name}: our own packages do not install; see {log}")
    if environment.alias and not gpu:
        # Built by the light environment's hatchling, which is locked; a build of its own would fetch any.
        out = ENVS / "alias"
        build: list[str | Path] = [ENVS / light / "bin/hatchling", "build", "-t", "wheel", "-d", out]
        if not run(build, log, {}, CHECKOUT / environment.alias) or not run(
            [uv, "pip", "install", "--no-deps", *where, *out.glob("*.whl")], log, settings
        ):
            raise SetupFailed(f"environment {environment.name}: the name vllm could not be registered; see {log}")
    (home / STAMP).write_text(stamp_of(environment, gpu))
    return f"  {environment.name}: made in {time.monotonic() - began:.0f} s"


def last_line(log: Path) -> str:
    """The line of a log that says why."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "hint" in line.lower()]
    return (telling or lines or ["it printed nothing"])[-1][:300]


def check_room(missing: list[Environment], gpu: bool) -> None:
    """Refuse to begin what cannot end. Raises SetupFailed with the numbers."""
    share = len([e for e in missing if e.name not in LIGHT and not e.is_data]) / 3
    needed = 1 + NEEDED_GIB["gpu" if gpu else "cpu"] * share
    ENVS.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(ENVS).free / 2**30
    if free < needed:
        raise SetupFailed(
            f"{ENVS} has {free:.1f} GiB free; the environments need {needed:.0f} GiB. Free some, or set HEARTH_ENVS"
        )


def main() -> int:
    """Make what is missing of the environments named on the command line."""
    known = environments()
    parser = argparse.ArgumentParser(description="make Hearth's environments")
    parser.add_argument("names", nargs="+", choices=sorted(known))
    names = parser.parse_args().names
    gpu = has_gpu()
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - it may be run by any Python there is
            raise SetupFailed(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
        missing = [known[name] for name in names if not is_made(known[name], gpu)]
        if not missing:
            return 0
        check_room(missing, gpu)
        began = time.monotonic()
        print(
            f"Setting up {', '.join(e.name for e in missing)} in {ENVS} for a machine with{'' if gpu else 'out'} a GPU"
        )
        uv, settings = bootstrap_uv(), pip_settings()
        light = next((name for name in names if name in LIGHT), "platform")
        first = [e for e in missing if e.name in LIGHT]
        rest = [e for e in missing if e.name not in LIGHT]
        for environment in first:
            print(make(environment, uv, gpu, settings, light), flush=True)
        # Downloads overlap; the linking of files does not profit from more.
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for done in concurrent.futures.as_completed(pool.submit(make, e, uv, gpu, settings, light) for e in rest):
                print(done.result(), flush=True)
        print(f"Set up in {time.monotonic() - began:.0f} s")
    except SetupFailed as failure:
        print(f"setup: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
