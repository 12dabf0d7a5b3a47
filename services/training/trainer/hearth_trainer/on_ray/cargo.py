"""Files on their way to Ray's nodes, in its object store."""

from collections.abc import Iterable
from pathlib import Path

import ray

from hearth_trainer.on_ray.desk import pieces

Cargo = dict[str, list["ray.ObjectRef[bytes]"]]
"""The pieces of each file, by its path in the run's folder."""


def load(folder: Path, paths: Iterable[Path]) -> Cargo:
    """Put files under `folder` into the object store, where they stay as long as the cargo is kept."""
    return {str(path.relative_to(folder)): [ray.put(data) for data in pieces(path)] for path in paths}


def unload(cargo: Cargo, folder: Path) -> None:
    """Write them under `folder`, on another node."""
    for name, refs in cargo.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for ref in refs:
                file.write(ray.get(ref))
