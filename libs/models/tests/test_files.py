"""One file on its way from a real hub-compatible server."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hearth_contracts.models import ModelFile
from hearth_models import files
from hearth_models.files import bring_file
from huggingface_hub import constants

from tests.support.hub import HubServer

SIZE, MOST = 25_000_000, 10_485_760  # the hub's client writes portions of 10 MiB


@pytest.mark.parametrize("there", [0, 3_000_000, 2 * MOST])
def test_a_file_that_is_larger_than_one_answer_of_the_hub_comes_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    monkeypatch.setattr(files, "PORTION", MOST)
    monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", MOST)  # above which the hub's client refuses
    body = os.urandom(SIZE)
    (tmp_path / "hub" / "acme" / "big").mkdir(parents=True)
    (tmp_path / "hub" / "acme" / "big" / "model.safetensors").write_bytes(body)
    wanted = ModelFile(name="model.safetensors", bytes=SIZE, sha256=sha256(body).hexdigest())
    (tmp_path / wanted.sha256).write_bytes(body[:there])
    with HubServer(tmp_path / "hub") as hub:
        hub.cut_once["model.safetensors"] = 2_000_000
        found = bring_file(f"{hub.url}/acme/big/resolve/main/model.safetensors", wanted, tmp_path, {})
    assert found.read_bytes() == body
    ranges = [hit.range or "" for hit in hub.requests]
    spans = [[int(end) for end in span.removeprefix("bytes=").split("-") if end] for span in ranges]
    assert spans[0][0] == there
    assert all(last - first < MOST for first, last in ((*span, SIZE - 1)[:2] for span in spans))
