"""What nodes fetched into a store: it stays there until another model needs the room.

A file `fetched` in a model's folder says that a node brought it, and, by its time, when an engine last ran on it. A
model without one was put there by somebody else, management or an operator, and is not ours to remove.
"""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from hearth_contracts.fit import Resource
from hearth_contracts.models import StoredModel
from hearth_fit.machine import Room, disk_room
from hearth_fit.weigh import weigh, words
from hearth_storage.model_store import RECORD, delete_model, model_folder, model_in

from hearth_models.files import PARTIAL, bytes_of
from hearth_models.refusals import Refused
from hearth_models.room import SPARE_BYTES

SCRATCH = "fetching"
"""Files that are whole, of a model that is not: a folder for its revision is in this one, in the model's."""
SETTING = "HEARTH_FETCHED_MODELS_MAX"
_MARK = "fetched"


def is_fetched(folder: Path) -> bool:
    """Whether a node brought what is in this model's folder, or some of a model that is not whole yet."""
    return (folder / _MARK).exists() or ((folder / SCRATCH).exists() and not (folder / RECORD).exists())


def mark_fetched(folder: Path) -> None:
    """A node brings it."""
    (folder / _MARK).touch()


def note_use(store: Path, model_id: str) -> None:
    """An engine runs on this model, or did until now."""
    folder = model_folder(store, model_id)
    with contextlib.suppress(OSError):  # it is a preference, no more
        if is_fetched(folder):
            mark_fetched(folder)


def unfinished(folder: Path) -> int:
    """Bytes that a fetch into this model's folder has brought so far, if it is not over."""
    return bytes_of([*_files(folder / PARTIAL), *_files(folder / SCRATCH)])


def make_room(store: Path, model: StoredModel, most: int, in_use: Collection[str]) -> list[str]:
    """Remove models that nodes fetched, the least recently used first, until this one has room; none that is `in_use`.

    Room is on the disk and, where `most` is not 0, among so many bytes for all that nodes fetch. Where even all of them
    would not make enough, none is removed. Gives their ids. Raises Refused when `most` leaves no room.
    """
    folders = {model_in(folder): folder for folder in store.glob("models--*") if is_fetched(folder)}
    sizes = {model_id: bytes_of(_files(folder)) for model_id, folder in folders.items()}
    others = sorted(folders.keys() - {model.model_id, *in_use}, key=lambda model_id: _last_use(folders[model_id]))
    free, taken = sum(sizes[model_id] for model_id in others), sum(sizes.values())
    coming = sum(file.bytes for file in model.files) - unfinished(model_folder(store, model.model_id))
    short = coming + SPARE_BYTES - disk_room(store).free
    if most:
        need = weigh(Resource.DISK, {"files": coming}, Room(most, most - taken + free), f"raise {SETTING}")
        if not need.fits:
            raise Refused(f"{model.model_id} does not fit among the models that nodes fetch: {words(need)}")
        short = max(short, taken + coming - most)
    removed: list[str] = []
    while 0 < short <= free:
        removed.append(others.pop(0))
        delete_model(store, removed[-1])
        short -= sizes[removed[-1]]
        free -= sizes[removed[-1]]
    return removed


def _last_use(folder: Path) -> float:
    try:
        return (folder / _MARK).stat().st_mtime
    except FileNotFoundError:  # it never was whole, or another node of this store has just removed it
        return 0.0


def _files(folder: Path) -> list[Path]:
    """All files in it; no error where some of it goes meanwhile."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]
