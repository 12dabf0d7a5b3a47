"""Bring one model's files into the model store: a process of its own, so that it can be ended at any moment.

    python -m hearth_management.fetch download MODEL_ID STORE
    python -m hearth_management.fetch import MODEL_ID STORE --folder FOLDER

Prints one JSON object a line (`hearth_models.events`): how far it is, and at the end either what it brought or why it
could not. It does not make the model exist: that is the record, written by the worker when it has read the last line.
"""

import argparse
import contextlib
import hashlib
import shutil
import sys
from pathlib import Path

from hearth_contracts.models import ModelFile
from hearth_models.events import Fetched, Progress, Refusal, reporting, say
from hearth_models.files import PARTIAL
from hearth_models.refusals import Refused, disk_errors, hub_errors
from hearth_models.room import check_room
from hearth_storage.model_store import describe_model, model_folder
from huggingface_hub import ModelCard, snapshot_download

from hearth_management.hub import WANTED, brought, is_wanted, look_up
from hearth_management.large_files import bring_large_files

COPY_BYTES = 8 * 2**20


def download(model_id: str, store: Path) -> Fetched:
    """Download from the hub, going on where an earlier try ended. Raises Refused."""
    listing = look_up(model_id)
    total = listing.bytes
    folder = model_folder(store, model_id)
    check_room(store, total - min(brought(store, model_id), total), model_id)
    with hub_errors(model_id):
        with reporting(lambda: Progress(done=min(brought(store, model_id), total), total=total)):
            known = bring_large_files(model_id, listing.revision, listing.files, folder)
            snapshot = Path(
                snapshot_download(model_id, revision=listing.revision, cache_dir=store, allow_patterns=list(WANTED))
            )
        shutil.rmtree(folder / PARTIAL)
    return Fetched(
        revision=listing.revision,
        size_bytes=total,
        license=listing.license,
        on_hub=True,
        files=describe_model(snapshot, known),
    )


def import_folder(model_id: str, store: Path, folder: Path) -> Fetched:
    """Copy a folder into the store. The revision is the hash of its files' names and contents. Raises Refused."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_wanted(path.name))
    total = sum(path.stat().st_size for path in files)
    check_room(store, total, model_id)
    target = model_folder(store, model_id)
    scratch = target / "importing"
    shutil.rmtree(scratch, ignore_errors=True)
    digest = hashlib.sha256()
    described: list[ModelFile] = []
    done = 0
    with reporting(lambda: Progress(done=done, total=total)):
        for path in files:
            if not path.resolve().is_relative_to(folder.resolve()):
                raise Refused(f"{path} is a link that leads out of {folder}; put the file itself there")
            name = path.relative_to(folder)
            digest.update(f"{name}\0".encode())
            own = hashlib.sha256()
            copy = scratch / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, copy.open("wb") as sink:
                while chunk := source.read(COPY_BYTES):
                    digest.update(chunk)
                    own.update(chunk)
                    sink.write(chunk)
                    done += len(chunk)
            described.append(ModelFile(name=name.as_posix(), bytes=copy.stat().st_size, sha256=own.hexdigest()))
    revision = digest.hexdigest()[:40]
    snapshot = target / "snapshots" / revision
    shutil.rmtree(snapshot, ignore_errors=True)
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(snapshot)
    return Fetched(
        revision=revision, size_bytes=total, license=_license_in(snapshot), on_hub=False, files=tuple(described)
    )


def _license_in(folder: Path) -> str | None:
    card = folder / "README.md"
    if not card.is_file():
        return None
    with contextlib.suppress(ValueError):  # a card whose front matter cannot be read states no licence
        found = ModelCard.load(card).data.license
        return found if isinstance(found, str) else None
    return None


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
