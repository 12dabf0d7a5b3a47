"""An adapter as a tar, from real S3."""

import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from hearth_management.archive import require_adapter, stream_tar, tar_bytes
from hearth_management.services import Services
from hearth_storage.objects import ARTIFACTS

from services.management.tests.conftest import refused

ADAPTER = "support-0a1b2c3d"


def test_an_adapter_is_downloaded_as_one_file(
    client: TestClient, services: Services, put_adapter: Callable[..., None]
) -> None:
    put_adapter(ADAPTER, "acme/llm")
    stored = {f"{ADAPTER}/{file.name}": file.sha256 for file in require_adapter(services, ADAPTER).files}
    response = client.get(f"/v1/models/{ADAPTER}/download")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-tar")
    assert len(response.content) == int(response.headers["content-length"])
    assert f'filename="{ADAPTER}.tar"' in response.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        contents = {name: tar.extractfile(name) for name in tar.getnames()}
        found = {name: hashlib.sha256(file.read()).hexdigest() for name, file in contents.items() if file}
    assert found == stored


def test_one_that_was_changed_in_the_store_ends_early(services: Services, put_adapter: Callable[..., None]) -> None:
    put_adapter(ADAPTER, "acme/llm")
    manifest = require_adapter(services, ADAPTER)
    services.s3.put_object(
        bucket_name=ARTIFACTS,
        object_name=f"adapters/{ADAPTER}/adapter_model.safetensors",
        data=io.BytesIO(b"WEIGHTS"),
        length=7,
    )
    sent = io.BytesIO()
    with pytest.raises(OSError, match=r"adapter_model\.safetensors"):
        sent.writelines(stream_tar(services.s3, manifest))
    assert len(sent.getvalue()) < tar_bytes(manifest)


@pytest.mark.parametrize("model_id", ["no-such-adapter", "UPPER"])
def test_only_adapters_that_are_there_are_downloaded(client: TestClient, model_id: str) -> None:
    refused(client.get(f"/v1/models/{model_id}/download"), 404)
