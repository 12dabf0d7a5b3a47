"""Bring one model's files into the model store: a process of its own, so that it can be ended at any moment.

    python -m hearth_management.fetch download MODEL_ID STORE
    python -m hearth_management.fetch import MODEL_ID STORE --folder FOLDER

Prints one JSON object a line (`FetchEvent`): how far it is, and at the end either what it brought or why it could
not. It does not make the model exist: that is the record, written by the worker when it has read the last line.
"""

import argparse
import contextlib
import hashlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from hearth_contracts.base import Frozen
from hearth_storage.model_store import model_folder
from huggingface_hub import HfApi, ModelCard, snapshot_download
from huggingface_hub.hf_api import ModelInfo
from pydantic import Field

from hearth_management.large_files import BLOBS, PARTIAL, bring_large_files
from hearth_management.refusals import Refused, disk_errors, hub_errors

WANTED = (
    "*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt",
    "LICENSE*", "NOTICE*", "USE_POLICY*", "README.md",
)  # fmt: skip
"""What is downloaded. Never pickled weights (*.bin, *.pt) or Python files: loading those runs code."""

COPY_BYTES = 8 * 2**20
SPARE_BYTES = 512 * 2**20


class Progress(Frozen):
    """Bytes so far."""

    event: Literal["progress"] = "progress"
    done: int
    total: int


class Fetched(Frozen):
    """Every file is in `snapshots/<revision>`."""

    event: Literal["fetched"] = "fetched"
    revision: str
    size_bytes: int
    license: str | None


class Refusal(Frozen):
    """Why not."""

    event: Literal["refused"] = "refused"
    reason: str


FetchEvent = Annotated[Progress | Fetched | Refusal, Field(discriminator="event")]


def say(event: Progress | Fetched | Refusal) -> None:
    """Print an event."""
    print(event.model_dump_json(), flush=True)


def download(model_id: str, store: Path) -> Fetched:
    """Download from the hub, going on where an earlier try ended. Raises Refused."""
    with hub_errors(model_id):
        info = HfApi().model_info(model_id, files_metadata=True)
        files = [file for file in info.siblings or [] if _is_wanted(file.rfilename)]
        if not any(file.rfilename.endswith(".safetensors") for file in files):
            raise Refused(
                f"{model_id} has no *.safetensors weights; other formats can run code when they are loaded, "
                "so they are not taken. Look for a conversion to safetensors on the hub"
            )
        total = sum(file.size or 0 for file in files)
        folder = model_folder(store, model_id)

        def brought() -> int:
            return min(_folder_bytes(folder / BLOBS) + _folder_bytes(folder / PARTIAL), total)

        check_room(store, total - brought(), model_id)
        assert info.sha is not None
        with _reporting(lambda: Progress(done=brought(), total=total)):
            bring_large_files(model_id, info.sha, files, folder)
            snapshot_download(model_id, revision=info.sha, cache_dir=store, allow_patterns=list(WANTED))
        shutil.rmtree(folder / PARTIAL)
    return Fetched(revision=info.sha, size_bytes=total, license=_license_of(info))


def _is_wanted(name: str) -> bool:
    return any(Path(name).match(pattern) for pattern in WANTED)


def _license_of(info: ModelInfo) -> str | None:
    if info.card_data is None or info.card_data.license is None:
        return None
    given = info.card_data.license
    if given == "other" and info.card_data.get("license_name"):
        return str(info.card_data.get("license_name"))
    return given if isinstance(given, str) else ", ".join(given)


def import_folder(model_id: str, store: Path, folder: Path) -> Fetched:
    """Copy a folder into the store. The revision is the hash of its files' names and contents. Raises Refused."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_wanted(path.name))
    total = sum(path.stat().st_size for path in files)
    check_room(store, total, model_id)
    target = model_folder(store, model_id)
    scratch = target / "importing"
    shutil.rmtree(scratch, ignore_errors=True)
    digest = hashlib.sha256()
    done = 0
    with _reporting(lambda: Progress(done=done, total=total)):
        for path in files:
            if not path.resolve().is_relative_to(folder.resolve()):
                raise Refused(f"{path} is a link that leads out of {folder}; put the file itself there")
            name = path.relative_to(folder)
            digest.update(f"{name}\0".encode())
            copy = scratch / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, copy.open("wb") as sink:
                while chunk := source.read(COPY_BYTES):
                    digest.update(chunk)
                    sink.write(chunk)
                    done += len(chunk)
    revision = digest.hexdigest()[:40]
    snapshot = target / "snapshots" / revision
    shutil.rmtree(snapshot, ignore_errors=True)
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(snapshot)
    return Fetched(revision=revision, size_bytes=total, license=_license_in(snapshot))


def _license_in(folder: Path) -> str | None:
    card = folder / "README.md"
    if not card.is_file():
        return None
    with contextlib.suppress(ValueError):  # a card whose front matter cannot be read states no licence
        found = ModelCard.load(card).data.license
        return found if isinstance(found, str) else None
    return None


def check_room(store: Path, needed: int, model_id: str) -> None:
    """Refuse what the disk has no room for, with the numbers."""
    store.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store).free
    if needed + SPARE_BYTES > free:
        raise Refused(
            f"{model_id} needs {needed / 2**30:.1f} GiB and {SPARE_BYTES / 2**30:.1f} GiB to spare, but {store} has "
            f"{free / 2**30:.1f} GiB free: delete models, or set HEARTH_HOME to a larger disk"
        )


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # a partial file is renamed when it is whole
            total += path.stat().st_size
    return total


@contextmanager
def _reporting(measure: Callable[[], Progress]) -> Iterator[None]:
    """Say twice a second how far it is."""
    over = threading.Event()

    def report() -> None:
        while not over.wait(0.5):
            say(measure())

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        say(measure())


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="bring a model's files into the model store")
    parser.add_argument("how", choices=["download", "import"])
    parser.add_argument("model_id")
    parser.add_argument("store", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    try:
        if options.how == "download":
            say(download(options.model_id, options.store))
        else:
            with disk_errors(options.model_id):
                say(import_folder(options.model_id, options.store, options.folder))
    except Refused as refusal:
        say(Refusal(reason=str(refusal)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
