"""An adapter as a tar, from real S3."""

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


def test_an_adapter_is_downloaded_as_one_file(client: TestClient, put_adapter: Callable[..., None]) -> None:
    put_adapter(ADAPTER, "acme/llm")
    response = client.get(f"/v1/models/{ADAPTER}/download")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-tar")
    assert len(response.content) == int(response.headers["content-length"])
    assert f'filename="{ADAPTER}.tar"' in response.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        (name,) = tar.getnames()
        content = tar.extractfile(name)
        assert content is not None
        assert (name, content.read()) == (f"{ADAPTER}/adapter_model.safetensors", b"weights")


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
