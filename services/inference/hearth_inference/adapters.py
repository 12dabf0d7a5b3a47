"""Adapters on their way to an engine: fetched, verified and checked against the deployment, before it sees them."""

import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from hearth_contracts.deploy import DeploymentSpec
from hearth_jobs.attempt import WorkFailed
from hearth_storage.adapters import AdapterCorrupt, AdapterMissing, fetch_adapter, read_manifest
from hearth_storage.objects import REFUSALS
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

T = TypeVar("T")


class StoreAway(Exception):
    """S3 cannot be reached, or has a fault of its own: no failure of what was asked for."""


def fetch_all(s3: Minio, spec: DeploymentSpec, root: Path, max_rank: int) -> dict[str, Path]:
    """A verified copy of each adapter of `spec`, by id. Raises WorkFailed, StoreAway."""
    return {adapter_id: _fetch(s3, spec, adapter_id, root, max_rank) for adapter_id in spec.adapter_ids}


def _fetch(s3: Minio, spec: DeploymentSpec, adapter_id: str, root: Path, max_rank: int) -> Path:
    try:
        manifest = read_manifest(s3, adapter_id)
        if manifest is None:
            raise WorkFailed(f"there is no adapter {adapter_id!r} any more; deploy without it, or train it again")
        if manifest.base_model_id != spec.model_id:
            raise WorkFailed(
                f"adapter {adapter_id!r} was trained on {manifest.base_model_id!r}; it does not fit {spec.model_id!r}"
            )
        if manifest.rank > max_rank:
            raise WorkFailed(
                f"adapter {adapter_id!r} has rank {manifest.rank}, and this node serves at most {max_rank}; "
                "raise engine.max_lora_rank, or HEARTH_MAX_LORA_RANK and restart the inference node"
            )
        return fetch_adapter(s3, adapter_id, root)
    except (AdapterMissing, AdapterCorrupt) as error:
        raise WorkFailed(str(error)) from error
    except S3Error as error:
        if error.code in REFUSALS:
            raise WorkFailed(f"S3 refuses adapter {adapter_id!r}: {error.code}; check its keys") from error
        raise StoreAway(f"adapter {adapter_id!r}: {error.code}") from error
    except (MinioException, HTTPError) as error:
        raise StoreAway(f"adapter {adapter_id!r} cannot be fetched now") from error
    except OSError as error:
        raise WorkFailed(
            f"adapter {adapter_id!r} could not be stored in {root}: {error.strerror}; free some space and deploy again"
        ) from error


def unless_interrupted(work: Callable[[], T], interrupted: Callable[[], bool]) -> T:
    """What `work` gives, or WorkFailed as soon as nobody wants it any more: an S3 server that hangs takes minutes.

    Work that is left alone goes on in its thread and harms nothing.
    """
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except Exception as error:
            done.put((None, error))

    threading.Thread(target=run, name="fetch", daemon=True).start()
    while not interrupted():
        with contextlib.suppress(queue.Empty):
            result, error = done.get(timeout=0.2)
            if error is not None:
                raise error
            return cast(T, result)
    raise WorkFailed("interrupted")
