"""What every backend promises, shown on each: this machine, and a Ray cluster of two nodes on loopback."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hearth_contracts.finetune import Resources
from hearth_contracts.jobs import JobStatus
from hearth_jobs.finetunes import FinetuneStore
from hearth_storage.adapters import fetch_adapter, read_manifest
from hearth_storage.config import HomeSettings
from hearth_storage.objects import ARTIFACTS

from services.training.tests.place import SHORT, Place, add_base, wait_for
from tests.support.ray_nodes import RayCluster, ray_cluster

Curve = dict[int, float | None]
pytestmark = pytest.mark.timeout(600)
STEADY = SHORT.model_copy(update={"max_steps": 300, "lora_dropout": 0.02})  # dropout: random numbers must go on too
LONG = SHORT.model_copy(update={"max_steps": 400, "save_steps": 20})
WHOLE = SHORT.model_copy(update={"batch_size": 10})  # all rows in each step: who learns from which makes no difference
UNFIT = SHORT.model_copy(update={"max_length": 8})  # no answer is within it


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(params=["local", "ray"])
def backend(request: pytest.FixtureRequest, place: Place) -> Place:
    """A place whose workers have their runs done there."""
    return place if request.param == "local" else replace(place, ray=request.getfixturevalue("cluster"))


@pytest.fixture(scope="module")
def kept() -> dict[str, Curve]:
    """What is found once for all tests here; stores are emptied after each."""
    return {}


@pytest.fixture
def undisturbed(place: Place, kept: dict[str, Curve]) -> Curve:
    """The curve of a run that nobody interrupts, on this machine: whatever the backend, the same comes of it."""
    if not kept:
        finetune = place.begin(place.dataset().id, STEADY)
        with place.worker():
            assert place.over(finetune).status is JobStatus.FINISHED, place.told(finetune)
        kept["undisturbed"] = place.curve(finetune)
    return kept["undisturbed"]


def test_interrupted_it_is_killed_with_nothing_left_and_goes_on_elsewhere_as_if_nothing_had_been(
    backend: Place, undisturbed: Curve, tmp_path: Path
) -> None:
    dataset = backend.dataset()
    finetune = backend.begin(dataset.id, STEADY)
    with backend.worker() as worker:
        backend.until_step(finetune, 35)
        assert backend.left()
        assert backend.jobs.interrupt(finetune.job_id).status is JobStatus.RUNNING  # until its processes are gone
        job = backend.over(finetune)
        assert (job.status, job.error) == (JobStatus.KILLED, None), backend.told(finetune)
        wait_for(lambda: not backend.left(), 5, lambda: f"left: {backend.left()}")
        assert worker.poll() is None  # it is there for the next one
    assert read_manifest(backend.s3, finetune.adapter_id) is None
    stopped_at, _ = FinetuneStore(backend.redis).facts(finetune.id)
    assert stopped_at is not None and 35 <= stopped_at < 300

    backend.home = HomeSettings(home=tmp_path / "elsewhere")
    add_base(backend.home)
    again = backend.resume(finetune)
    with backend.worker():
        assert backend.over(again).status is JobStatus.FINISHED, backend.told(again)

    assert backend.resumed_at(again) == stopped_at
    assert backend.curve(again) == pytest.approx(undisturbed, rel=1e-4)
    adapter = fetch_adapter(backend.s3, again.adapter_id, tmp_path / "copies")  # raises if a hash is wrong
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    assert 'base_model: "tiny/llama"' in (adapter / "README.md").read_text()
    assert {path.name for path in (backend.home.runs / finetune.id).iterdir()} == {"result.json", "run.json"}
    left = backend.s3.list_objects(bucket_name=ARTIFACTS, prefix="checkpoints/", recursive=True)
    assert list(left) == []  # of no use once the adapter is there


def test_what_cannot_be_learnt_from_fails_in_the_trainers_own_words(backend: Place) -> None:
    finetune = backend.begin(backend.dataset().id, UNFIT)
    with backend.worker():
        job = backend.over(finetune)
    assert job.status is JobStatus.FAILED
    assert job.error is not None and "is within max_length=8 tokens" in job.error, backend.told(finetune)


def test_a_run_for_a_cluster_waits_for_the_worker_that_has_one_while_others_do_what_comes_after_it(
    place: Place, cluster: RayCluster
) -> None:
    dataset = place.dataset()
    wide = place.begin(dataset.id, SHORT, Resources(workers=2))
    plain = place.begin(dataset.id, SHORT)
    spelt_out = place.begin(dataset.id, SHORT, Resources(workers=1, cpus_per_worker=1, sharding="none"))
    with place.worker() as local:
        for each in (plain, spelt_out):
            assert place.over(each).status is JobStatus.FINISHED, place.told(each)
        assert (place.job(wide).status, place.job(wide).attempt) == (JobStatus.CREATED, 0)
        with replace(place, ray=cluster).worker():
            job = place.over(wide)
        assert local.poll() is None
    assert (job.status, job.attempt) == (JobStatus.FINISHED, 1), place.told(wide)


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_ray_node_is_lost_and_the_run_goes_on_from_its_checkpoint_on_the_node_that_is_left(
    place: Place, cluster: RayCluster, tmp_path: Path, sharding: str
) -> None:
    place.ray = cluster
    finetune = place.begin(place.dataset().id, LONG, Resources.model_validate({"workers": 2, "sharding": sharding}))
    with place.worker():
        place.until_step(finetune, 60)
        assert len([name for name in cluster.trainers() if "RayTrainWorker" in name]) == 2
        cluster.lose(cluster.nodes[-1])
        job = place.over(finetune)
    cluster.start_node()  # for the tests that follow

    assert (job.status, job.attempt) == (JobStatus.FINISHED, 1), place.told(finetune)
    assert place.resumed_at(finetune) >= 40
    assert list(place.curve(finetune)) == list(range(1, 401))
    fetch_adapter(place.s3, finetune.adapter_id, tmp_path)


def test_workers_on_two_ray_nodes_that_share_the_base_make_the_adapter_that_one_process_makes(
    place: Place, cluster: RayCluster, tmp_path: Path
) -> None:
    def made(resources: Resources) -> tuple[Curve, bytes]:
        finetune = place.begin(place.dataset().id, WHOLE, resources)
        with place.worker():
            assert place.over(finetune).status is JobStatus.FINISHED, place.told(finetune)
        adapter = fetch_adapter(place.s3, finetune.adapter_id, tmp_path)
        return place.curve(finetune), (adapter / "adapter_model.safetensors").read_bytes()

    curve, adapter = made(Resources())
    place.ray = cluster
    shared_curve, shared_adapter = made(Resources(workers=2, sharding="full"))
    assert shared_curve == pytest.approx(curve, rel=1e-3)
    assert header_of(shared_adapter) == header_of(adapter)
    assert numbers_of(shared_adapter) == pytest.approx(numbers_of(adapter), abs=1e-3)


def header_of(safetensors: bytes) -> object:
    """Names, shapes and types of its tensors."""
    return json.loads(safetensors[8 : 8 + int.from_bytes(safetensors[:8], "little")])


def numbers_of(safetensors: bytes) -> list[float]:
    """All of them, in float32."""
    body = safetensors[8 + int.from_bytes(safetensors[:8], "little") :]
    return list(struct.unpack(f"<{len(body) // 4}f", body))
