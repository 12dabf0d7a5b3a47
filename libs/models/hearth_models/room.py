"""Room for a model on the disk of a model store."""

from pathlib import Path

from hearth_contracts.fit import Need, Resource
from hearth_fit.machine import disk_room
from hearth_fit.weigh import weigh, words

from hearth_models.refusals import Refused

SPARE_BYTES = 512 * 2**20
"""What a download leaves free."""


def disk_need(store: Path, files_bytes: int) -> Need:
    """What the model store's disk must have free to take so much more."""
    parts = {"files": files_bytes, "spare": SPARE_BYTES}
    remedy = "delete models, or set HEARTH_HOME to a larger disk"
    return weigh(Resource.DISK, parts, disk_room(store), remedy)


def check_room(store: Path, files_bytes: int, model_id: str) -> None:
    """Refuse what the disk has no room for, with the numbers. Raises Refused."""
    store.mkdir(parents=True, exist_ok=True)
    need = disk_need(store, files_bytes)
    if not need.fits:
        raise Refused(f"{model_id} does not fit: {words(need)}")
