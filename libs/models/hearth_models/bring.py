"""Bring a model that another machine's store has into this one: a process of its own, which may be ended at any moment.

    python -m hearth_models.bring ORDER STORE

ORDER is a file with an `Order`, which is removed as soon as it is read; STORE is the model store. Each file comes from
the hub, of the very commit, or from S3, and must have the hash that was recorded where the model was added. An attempt
goes on where the one before it ended, in mid-file too: what lies in its scratch folder was right when it was put there,
and is not read again. The model exists once it is all there. Prints one JSON object a line (`hearth_models.events`).
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from hearth_contracts.base import Frozen
from hearth_contracts.models import StoredModel
from hearth_storage.locks import alone_in
from hearth_storage.model_store import find_model, model_folder, record_model, snapshot_path
from huggingface_hub import hf_hub_url
from huggingface_hub.utils._headers import build_hf_headers

from hearth_models.events import Fetched, Progress, Refusal, reporting, say
from hearth_models.fetched import SCRATCH, is_fetched, mark_fetched, unfinished
from hearth_models.files import PARTIAL, bring_file, bytes_of
from hearth_models.refusals import Refused, hub_errors, s3_errors
from hearth_models.room import check_room

SHARE = "share the model through S3 (HEARTH_SHARE_MODELS)"


class Order(Frozen):
    """What is to be brought."""

    model: StoredModel
    urls: tuple[str, ...] | None  # where each of its files lies in S3, in their order; None: they are on the hub


def bring(order: Order, store: Path) -> Fetched:
    """Make the model exist in this store. Raises Refused."""
    model = order.model
    folder, snapshot = model_folder(store, model.model_id), snapshot_path(store, model)
    total = sum(file.bytes for file in model.files)

    def done() -> int:
        return min(total, bytes_of(snapshot / file.name for file in model.files) + unfinished(folder))

    with hub_errors(model.model_id, SHARE) if order.urls is None else s3_errors(model.model_id):
        with alone_in(folder), reporting(lambda: Progress(done=done(), total=total)):
            there = find_model(store, model.model_id)  # another node of this store may have brought it
            if there is None or there.revision != model.revision:
                shutil.rmtree(snapshot, ignore_errors=True)  # without a record of it nobody knows what is in it
                scratch = folder / SCRATCH / model.revision
                _leave_only(scratch)
                check_room(store, total - done(), model.model_id)
                _bring_files(order, scratch, folder / PARTIAL)
                snapshot.parent.mkdir(exist_ok=True)
                scratch.rename(snapshot)
                if there is None:
                    mark_fetched(folder)
                record_model(store, model)
                for emptied in (SCRATCH, PARTIAL):
                    shutil.rmtree(folder / emptied)
                if is_fetched(folder):
                    _leave_only(snapshot)  # what runs on another revision has read it
    return Fetched(**model.model_dump(include=set(Fetched.model_fields) - {"event"}))


def _bring_files(order: Order, scratch: Path, partial: Path) -> None:
    """All files into the folder `scratch`, where each is put once its hash was right, and nothing else."""
    model = order.model
    for folder in (scratch, partial):
        folder.mkdir(parents=True, exist_ok=True)
    urls, headers = order.urls, {}
    if urls is None:
        urls = tuple(hf_hub_url(model.model_id, file.name, revision=model.revision) for file in model.files)
        headers = build_hf_headers()
    wanted = {path for file in model.files for path in (scratch / file.name, partial / file.sha256)}
    for stray in {path for path in (*scratch.rglob("*"), *partial.glob("*")) if not path.is_dir()} - wanted:
        stray.unlink()
    for file, url in zip(model.files, urls, strict=True):
        target = scratch / file.name
        if target.is_file() and target.stat().st_size == file.bytes:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(bring_file(url, file, partial, headers), target)


def _leave_only(path: Path) -> None:
    """Remove all that lies beside it."""
    for other in set(path.parent.glob("*")) - {path}:
        shutil.rmtree(other, ignore_errors=True)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="bring a model that another machine has into a model store")
    parser.add_argument("order", type=Path)
    parser.add_argument("store", type=Path)
    options = parser.parse_args()
    order = Order.model_validate_json(options.order.read_text(encoding="utf-8"))
    options.order.unlink()  # its addresses open files in S3
    try:
        say(bring(order, options.store))
    except Refused as refusal:
        say(Refusal(reason=str(refusal), is_away=refusal.is_away))
    return 0


if __name__ == "__main__":
    sys.exit(main())
