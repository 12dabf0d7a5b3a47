"""A merge, done by a real worker: an adapter and its base become a model of their own."""

import json
from pathlib import Path

import pytest
from hearth_contracts.hyperparameters import Hyperparameters
from hearth_contracts.jobs import JobStatus
from hearth_storage.adapters import fetch_adapter
from hearth_storage.model_store import describe_model, find_model, snapshot_path

from services.training.tests.place import BASE, SHORT, Place

pytestmark = pytest.mark.timeout(400)
MERGED = "tiny/merged"
DORA = Hyperparameters.model_validate(SHORT.model_dump() | {"use_dora": True})


def test_a_dora_adapter_is_stored_and_merged_into_a_model_of_its_own(place: Place, tmp_path: Path) -> None:
    finetune = place.begin(place.dataset().id, DORA)
    with place.worker():
        assert place.over(finetune).status is JobStatus.FINISHED, place.told(finetune)
        merged = place.merge(finetune.adapter_id, MERGED)
    assert merged.status is JobStatus.FINISHED, merged

    adapter = fetch_adapter(place.s3, finetune.adapter_id, tmp_path)
    assert json.loads((adapter / "adapter_config.json").read_text())["use_dora"] is True

    model, base = find_model(place.home.models, MERGED), find_model(place.home.models, BASE)
    assert model is not None and base is not None
    assert (model.revision, model.license) == (f"main-{finetune.adapter_id}", "apache-2.0")
    folder, origin = (snapshot_path(place.home.models, each) for each in (model, base))
    assert model.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert model.files == describe_model(folder) != ()
    assert {path.name for path in folder.iterdir()} >= {path.name for path in origin.iterdir()}
    weights = "model.safetensors"
    assert (folder / weights).stat().st_size == (origin / weights).stat().st_size
    assert (folder / weights).read_bytes() != (origin / weights).read_bytes()
    assert f"with the adapter `{finetune.adapter_id}` merged into it" in (folder / "README.md").read_text()


def test_a_merge_of_an_adapter_that_is_gone_fails_with_words(place: Place) -> None:
    with place.worker():
        job = place.merge("gone-00000000", "tiny/nothing")
    assert (job.status, job.error) == (JobStatus.FAILED, "adapter gone-00000000 has been deleted")
    assert find_model(place.home.models, "tiny/nothing") is None
