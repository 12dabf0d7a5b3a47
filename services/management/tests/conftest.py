"""Management on real servers: an empty Redis, an empty S3, a home of its own, and models that are there."""

import json
import math
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hearth_contracts.adapters import AdapterManifest
from hearth_contracts.base import now
from hearth_contracts.datasets import Dataset, DatasetFormat
from hearth_contracts.models import StoredModel
from hearth_jobs.config import RedisSettings
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import Services, build_services
from hearth_storage.adapters import store_adapter
from hearth_storage.bundles import describe
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import model_folder, record_model
from hearth_storage.objects import DATASETS
from huggingface_hub import constants
from minio import Minio
from pydantic import SecretStr

from tests.support.servers import free_port

SMALL: dict[str, Any] = {
    "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 100,
    "max_position_embeddings": 256,
}  # fmt: skip
"""The config of a model so small that it fits anywhere; `BASE_SHAPES` are its weights."""

BASE_SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (100, 16),
    "model.layers.0.self_attn.q_proj.weight": (24, 16),
}


def safetensors(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """A safetensors file with zeros in these shapes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    body = json.dumps(header).encode()
    return struct.pack("<Q", len(body)) + body + bytes(end)


def lora(module: str, rank: int, inside: int = 16, out: int = 24) -> dict[str, tuple[int, ...]]:
    """The shapes of a LoRA adapter for one layer, as PEFT names them."""
    layer = f"base_model.model.model.layers.0.self_attn.{module}"
    return {f"{layer}.lora_A.weight": (rank, inside), f"{layer}.lora_B.weight": (out, rank)}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a hub but one of its own: nobody listens here."""
    use_hub(monkeypatch, f"http://127.0.0.1:{free_port()}")


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does when a process starts."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


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

    def put(
        model_id: str,
        architecture: str = "LlamaForCausalLM",
        shapes: dict[str, tuple[int, ...]] | None = None,
        **config: Any,
    ) -> None:
        folder = model_folder(home.models, model_id)
        snapshot = folder / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(
            json.dumps({"architectures": [architecture], "max_position_embeddings": 4096, **config})
        )
        if shapes:
            (snapshot / "model.safetensors").write_bytes(safetensors(shapes))
        stored = StoredModel(model_id=model_id, revision="abc", size_bytes=7, license="mit", created_at=now())
        record_model(home.models, stored)

    return put


@pytest.fixture
def put_adapter(s3: Minio, tmp_path: Path) -> Callable[..., None]:
    """Make an adapter exist."""

    def put(adapter_id: str, base_id: str, rank: int = 8, shapes: dict[str, tuple[int, ...]] | None = None) -> None:
        folder = tmp_path / adapter_id
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(safetensors(shapes or lora("q_proj", rank)))
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
        dataset = Dataset(
            id=dataset_id, name="a.jsonl", s3_path=f"{dataset_id}/metadata.json", description=None,
            format=DatasetFormat.MESSAGES, rows=400, turns=800, bytes=7, sha256="0", created_at=now(),
        )  # fmt: skip
        body = dataset.model_dump_json().encode()
        key = f"{dataset_id}/metadata.json"
        s3.put_object(bucket_name=DATASETS, object_name=key, data=BytesIO(body), length=len(body))

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
