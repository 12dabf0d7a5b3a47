"""What processes that died have left in S3."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from hearth_management import app
from hearth_management.services import Services
from hearth_storage.objects import ARTIFACTS
from minio import Minio
from tenacity import Retrying, stop_after_delay, wait_fixed


def test_parts_of_a_share_that_was_killed_go_once_nobody_can_be_at_work_on_them(
    services: Services, s3: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "models/acme--tiny/one/model.safetensors"
    upload = s3._create_multipart_upload(ARTIFACTS, key, {})
    s3._upload_part(ARTIFACTS, key, bytes(5 * 2**20), None, upload, 1)
    monkeypatch.setattr(app, "STALE", -timedelta(hours=1))  # everything is old
    with TestClient(app.management_app(services)):
        for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(0.1), reraise=True):
            with attempt:
                assert upload not in {each.upload_id for each in s3._list_multipart_uploads(ARTIFACTS).uploads}
