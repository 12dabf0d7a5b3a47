"""What a run needs on the worker's disk: its dataset, checked against the hash that the metadata names."""

from pathlib import Path

from hearth_contracts.datasets import Dataset
from hearth_jobs.attempt import WorkFailed
from hearth_storage import datasets
from hearth_storage.bundles import sha256_of
from hearth_storage.objects import DATASETS
from minio import Minio


def read_dataset(s3: Minio, dataset_id: str) -> Dataset:
    """The dataset's metadata. Raises WorkFailed when it has been deleted."""
    dataset = datasets.read_dataset(s3, dataset_id)
    if dataset is None:
        raise WorkFailed(f"dataset {dataset_id} has been deleted; upload it again and begin a new fine-tune")
    return dataset


def fetch_rows(s3: Minio, dataset: Dataset, path: Path) -> None:
    """The rows at `path`, byte for byte as they are stored; not fetched again when they are there."""
    if path.is_file() and sha256_of(path) == dataset.sha256:
        return
    key = datasets.rows_key(datasets.content_of(dataset))
    s3.fget_object(bucket_name=DATASETS, object_name=key, file_path=str(path))
    if sha256_of(path) != dataset.sha256:
        path.unlink()
        raise WorkFailed(f"the rows of dataset {dataset.id} are not what was uploaded; upload the file again")
