"""Adapters on their way to an engine: fetched, verified and checked against the deployment, before it sees them."""

from pathlib import Path

from hearth_contracts.deploy import DeploymentSpec
from hearth_jobs.attempt import WorkFailed
from hearth_storage.adapters import AdapterCorrupt, AdapterMissing, fetch_adapter, read_manifest
from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError


def fetch_all(s3: Minio, spec: DeploymentSpec, root: Path, max_rank: int) -> dict[str, Path]:
    """A verified copy of each adapter of `spec`, by id. Raises WorkFailed."""
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
    except (MinioException, HTTPError, OSError) as error:
        raise WorkFailed(f"adapter {adapter_id!r} could not be fetched from S3: {error}; deploy again") from error
