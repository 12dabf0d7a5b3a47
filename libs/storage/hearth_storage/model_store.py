"""The model store: base models on disk in Hugging Face's cache layout, each with a record written last.

`models--<org>--<name>/snapshots/<revision>/...` is the layout of huggingface_hub's cache, so that its downloads
resume and anything that reads that cache can read this one. `models--<org>--<name>/hearth.json` says that the
snapshot it names is whole: a model without it does not exist for Hearth.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hearth_contracts.models import ModelFile, StoredModel
from hearth_contracts.names import is_model_id

from hearth_storage.bundles import sha256_of

RECORD = "hearth.json"


def model_folder(store: Path, model_id: str) -> Path:
    """Where a model lies. Raises ValueError for what cannot be a model's id, so that no path is made of it."""
    if not is_model_id(model_id):
        raise ValueError(f"{model_id!r} is not a model id: it is written `name` or `organisation/name`")
    return store / f"models--{model_id.replace('/', '--')}"


def model_in(folder: Path) -> str:
    """The id of the model that a folder of a store is for: no id has `--` in it."""
    return folder.name.removeprefix("models--").replace("--", "/")


def snapshot_path(store: Path, model: StoredModel) -> Path:
    """The folder with config.json and the weights."""
    return model_folder(store, model.model_id) / "snapshots" / model.revision


def describe_model(snapshot: Path, known: Mapping[str, str] | None = None) -> tuple[ModelFile, ...]:
    """The files of a model's folder, with their sizes and hashes, by name; `known` hashes are not taken again."""
    found = {path.relative_to(snapshot).as_posix(): path for path in sorted(snapshot.rglob("*")) if path.is_file()}
    return tuple(
        ModelFile(name=name, bytes=path.stat().st_size, sha256=(known or {}).get(name) or sha256_of(path))
        for name, path in found.items()
    )


def record_model(store: Path, model: StoredModel) -> None:
    """Make the model exist: the record is written whole, and last."""
    folder = model_folder(store, model.model_id)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
        file.write(model.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, folder / RECORD)


def find_model(store: Path, model_id: str) -> StoredModel | None:
    """The model, or None when it is not there whole (or `model_id` cannot be an id)."""
    if not is_model_id(model_id):
        return None
    try:
        body = (model_folder(store, model_id) / RECORD).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    model = StoredModel.model_validate_json(body, extra="ignore")
    return model if snapshot_path(store, model).is_dir() else None


def model_ids(store: Path) -> set[str]:
    """The ids of all models that have a record, which is not read."""
    return {model_in(record.parent) for record in store.glob(f"models--*/{RECORD}")}


def list_models(store: Path) -> list[StoredModel]:
    """All models that are whole, by id."""
    found = []
    for record in store.glob(f"models--*/{RECORD}"):
        model = StoredModel.model_validate_json(record.read_text(encoding="utf-8"), extra="ignore")
        if snapshot_path(store, model).is_dir():
            found.append(model)
    return sorted(found, key=lambda model: model.model_id)


def delete_model(store: Path, model_id: str) -> None:
    """Remove a model: first its record, so that it stops existing at once, then its bytes."""
    folder = model_folder(store, model_id)
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
