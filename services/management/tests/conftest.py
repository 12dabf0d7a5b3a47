"""Management on real servers: an empty Redis, an empty S3, a home of its own, and models that are there."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_jobs.config import RedisSettings
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import Services, build_services
from hearth_storage.adapters import describe, store_adapter
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import StoredModel, model_folder, record_model
from hearth_storage.objects import DATASETS
from minio import Minio
from pydantic import SecretStr


@pytest.fixture
def home(tmp_path: Path) -> HomeSettings:
    settings = HomeSettings(home=tmp_path / "home")
    settings.imports.mkdir(parents=True)
    return settings


@pytest.fixture
def services(home: HomeSettings, redis_url: str, s3: Minio, s3_settings: S3Settings) -> Services:
    return build_services(ManagementSettings(), home, RedisSettings(redis_url=SecretStr(redis_url)), s3_settings)


@pytest.fixture
def put_model(home: HomeSettings) -> Callable[..., None]:
    """Make a base model exist."""

    def put(model_id: str, architecture: str = "LlamaForCausalLM") -> None:
        folder = model_folder(home.models, model_id)
        snapshot = folder / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
        stored = StoredModel(model_id=model_id, revision="abc", size_bytes=7, license="mit", created_at=now())
        record_model(home.models, stored)

    return put


@pytest.fixture
def put_adapter(s3: Minio, tmp_path: Path) -> Callable[..., None]:
    """Make an adapter exist."""

    def put(adapter_id: str, base_id: str, rank: int = 8) -> None:
        folder = tmp_path / adapter_id
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        manifest = AdapterManifest(
            adapter_id=adapter_id,
            base_model_id=base_id,
            base_revision="abc",
            rank=rank,
            target_modules=("q_proj",),
            files=describe(folder),
            finetune_id="f",
            dataset_id="d",
            dataset_sha256="0",
            license="mit",
            created_at=now(),
        )
        store_adapter(s3, folder, manifest)

    return put


@pytest.fixture
def put_dataset(s3: Minio) -> Callable[[str], None]:
    """Make a dataset exist: its metadata is what says so."""

    def put(dataset_id: str) -> None:
        s3.put_object(bucket_name=DATASETS, object_name=f"{dataset_id}/metadata.json", data=BytesIO(b"{}"), length=2)

    return put


@pytest.fixture
def put_folder(home: HomeSettings) -> Callable[[str], Path]:
    """Put a model's folder under the import directory."""

    def put(name: str) -> Path:
        folder = home.imports / name
        folder.mkdir()
        (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        return folder

    return put


@pytest.fixture
def client(services: Services) -> TestClient:
    """Without its lifespan, so without the reconciler: what a test reads is what the request before it did."""
    return TestClient(management_app(services))


def refused(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in response.json()["detail"]


def answered(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()
