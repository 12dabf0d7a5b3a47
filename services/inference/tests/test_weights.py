"""Nodes whose own store lacks the model: it comes from a real hub-compatible server or a real S3, or not at all."""

import os
import time

import psutil
import pytest
from hearth_contracts.deploy import DeploymentState, Engine
from hearth_contracts.jobs import JobStatus
from hearth_jobs import tallies
from hearth_jobs.tallies import Tally
from hearth_models.share import PREFIX, share_model
from hearth_storage.config import S3Settings
from hearth_storage.model_store import delete_model, find_model, model_ids, record_model, snapshot_path
from hearth_storage.objects import ARTIFACTS, connect

from services.inference.tests.conftest import Place, wait_for
from services.inference.tests.nodes import WEIGHTS, Stage
from tests.support.servers import free_port

MODEL, OTHER, THIRD = "acme/tiny", "acme/other", "acme/third"


class Untroubled:
    """Work that nobody ends."""

    def check(self) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def report(self, progress: float | None = None, stage: str | None = None) -> None: ...


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def fetchers() -> list[psutil.Process]:
    """The processes of this test that bring a model."""
    below = psutil.Process().children(recursive=True)
    return [each for each in below if is_alive(each) and "hearth_models.bring" in each.cmdline()]


def test_a_node_without_the_model_fetches_what_management_has_and_says_how_far_it_is(stage: Stage) -> None:
    model = stage.add(MODEL)
    stage.hub.bytes_per_second = 16 * 2**20
    job, node = stage.deploy(model), stage.join("far")
    stage.until(lambda: "left" in node.detail)
    seen = stage.report("far")
    assert (seen.state, seen.runs) == (DeploymentState.LOADING, (job.id,))
    assert seen.detail.startswith(f"fetching {MODEL}: ")
    assert 0 < stage.jobs.get(job.id).progress < 0.1
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", model)
    assert stage.jobs.get(job.id).status is JobStatus.RUNNING
    assert {hit.path.split("/")[4] for hit in stage.hub.requests if "/resolve/" in hit.path} == {model.revision}


def test_what_the_hub_has_damaged_is_refused_and_nothing_that_loads_is_left(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    damaged = stage.hub.root / MODEL
    damaged.unlink()
    damaged.mkdir()
    (damaged / "config.json").write_text("{}")
    (damaged / WEIGHTS).write_bytes(os.urandom(2**20))
    stage.hub.commit = lambda repo: model.revision  # type: ignore[method-assign]  # a mirror that lies
    job, _ = stage.deploy(model), stage.join("far")
    ended = stage.over(job)
    assert ended.status is JobStatus.FAILED
    assert WEIGHTS in str(ended.error) and "SHA-256" in str(ended.error)
    store = stage.home("far").models
    assert find_model(store, MODEL) is None
    assert {path.name for path in store.rglob("*") if path.is_file()} == {"config.json"}


def resumed_at(stage: Stage) -> int:
    """The first byte that the hub was last asked for of the weights."""
    asked = [hit.range for hit in stage.hub.requests if hit.method == "GET" and hit.path.endswith(WEIGHTS)][-1]
    return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0


def test_a_fetch_that_was_killed_goes_on_in_mid_file(stage: Stage) -> None:
    model = stage.add(MODEL)
    stage.hub.bytes_per_second = 16 * 2**20
    job, node = stage.deploy(model), stage.join("far")
    stage.until(lambda: node.weights.bringing and node.weights.bringing.share > 0.4)
    for each in fetchers():
        each.kill()
    stage.hub.bytes_per_second = None
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", model)
    assert resumed_at(stage) >= 10 * 2**20
    assert stage.jobs.get(job.id).attempt == 1


def test_undeployed_in_mid_fetch_the_job_is_killed_with_no_process_left_and_the_next_deploy_goes_on(
    stage: Stage,
) -> None:
    model = stage.add(MODEL)
    stage.hub.bytes_per_second = 16 * 2**20
    job, node = stage.deploy(model), stage.join("far")
    stage.until(lambda: node.weights.bringing and node.weights.bringing.share > 0.4)
    assert fetchers()
    stage.deployments.undeploy("default")
    assert node.tick() is False
    assert stage.jobs.get(job.id).status is JobStatus.RUNNING
    stage.leave(node)
    assert fetchers() == []
    assert stage.jobs.get(job.id).status is JobStatus.KILLED
    assert not list((stage.home("far").home / "run").glob("bring-*"))
    stage.hub.bytes_per_second = None
    stage.deploy(model)
    stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", model)
    assert resumed_at(stage) >= 10 * 2**20


def test_a_node_that_is_killed_in_mid_fetch_leaves_no_process_and_the_next_goes_on(stage: Stage) -> None:
    model = stage.add(MODEL)
    stage.hub.bytes_per_second = 8 * 2**20
    stage.deploy(model)
    place = Place(stage.redis, stage.s3_settings, stage.home("far"))
    options = {"HEARTH_ENGINE_PYTHON": "/bin/true"}  # no engine is needed here
    with place.worker(Engine.VLLM, **options) as worker:
        wait_for(lambda: stage.hub.sent(WEIGHTS) > 12 * 2**20, 60)
        fetching = fetchers()
        assert fetching
        worker.kill()
        wait_for(lambda: not any(is_alive(each) for each in fetching), 20)
    place.bury_the_dead()
    stage.hub.bytes_per_second = None
    place.requeue("default", Engine.VLLM)
    with place.worker(Engine.VLLM, **options):
        wait_for(lambda: stage.is_whole("far", model), 60)
        stage.deployments.undeploy("default")
    assert resumed_at(stage) >= 10 * 2**20


def test_what_serves_goes_on_while_another_model_comes_and_one_that_nobody_wants_any_more_comes_no_further(
    stage: Stage,
) -> None:
    first, second = stage.add(MODEL, 2**20), stage.add(OTHER)
    stage.deploy(first)
    node = stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    stage.hub.bytes_per_second = 4 * 2**20
    replaced = stage.deploy(second)
    stage.until(lambda: node.weights.bringing)
    assert stage.serves() == {"far": MODEL}
    again = stage.deploy(first)
    stage.until(lambda: node.weights.bringing is None)
    assert fetchers() == []
    stage.until(lambda: stage.jobs.get(replaced.id).status.is_over)
    assert stage.jobs.get(again.id).status is JobStatus.RUNNING
    stage.hub.bytes_per_second = None
    stage.deploy(second)
    stage.until(lambda: stage.serves() == {"far": OTHER})


def test_a_model_that_no_hub_has_comes_from_s3_and_its_address_is_in_no_log(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stage.add(MODEL, on_hub=False)
    share_model(stage.s3, stage.models, model, Untroubled())
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")  # leads to the hub alone
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # where there is none
    job, _ = stage.deploy(model), stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", model)
    assert stage.hub.requests == []
    assert "X-Amz" not in stage.home("far").job_log(job.id).read_text()


def test_what_s3_has_damaged_is_refused(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20, on_hub=False)
    share_model(stage.s3, stage.models, model, Untroubled())
    key = f"{PREFIX}acme--tiny/imported/{WEIGHTS}"
    other = stage.root / "other"
    other.write_bytes(os.urandom(2**20))
    stage.s3.fput_object(bucket_name=ARTIFACTS, object_name=key, file_path=str(other))
    job, _ = stage.deploy(model), stage.join("far")
    assert "SHA-256" in str(stage.over(job).error)
    assert find_model(stage.home("far").models, MODEL) is None


def test_while_s3_is_away_the_version_waits_and_says_so(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    job, node = stage.deploy(model), stage.join("far")
    s3 = node.weights.s3
    node.weights.s3 = connect(S3Settings(s3_endpoint=f"127.0.0.1:{free_port()}"))
    stage.until(lambda: node.detail.startswith("waiting for S3"))
    assert stage.jobs.get(job.id).status is JobStatus.RUNNING
    node.weights.s3 = s3
    stage.until(lambda: stage.serves() == {"far": MODEL})


def test_what_has_served_waits_for_a_hub_that_is_away_and_comes_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stage.add(MODEL, 2**20)
    job, node = stage.deploy(model), stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    stage.leave(node)
    delete_model(stage.home("far").models, MODEL)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    again = stage.join("far")
    for _ in range(4):  # more often than what fails is tried again
        again.detail = ""
        stage.until(lambda: again.detail.startswith("waiting for the hub: "))
    assert stage.jobs.get(job.id).status is JobStatus.RUNNING
    monkeypatch.setenv("HF_ENDPOINT", stage.hub.url)
    stage.until(lambda: stage.serves() == {"far": MODEL})


def test_a_model_that_is_nowhere_to_be_had_fails_with_what_to_do(stage: Stage) -> None:
    job, _ = stage.deploy(stage.add(MODEL, 100, on_hub=False)), stage.join("far")
    assert f"python -m hearth_models.share {MODEL}" in str(stage.over(job).error)


def test_a_node_that_does_not_reach_the_hub_says_what_else_there_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    job, _ = stage.deploy(stage.add(MODEL, 100)), stage.join("far")
    assert "HEARTH_SHARE_MODELS" in str(stage.over(job).error)


def test_a_disk_without_room_is_told_with_the_numbers(stage: Stage) -> None:
    model = stage.add(MODEL, 100)
    huge = model.files[0].model_copy(update={"bytes": 10**18})
    job, _ = stage.deploy(model.model_copy(update={"files": (huge, *model.files[1:])})), stage.join("far")
    assert "GiB of disk" in str(stage.over(job).error)
    assert not [hit for hit in stage.hub.requests if "/resolve/" in hit.path]


def test_another_revision_than_managements_is_fetched_anew(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    store = stage.home("far").models
    old = model.model_copy(update={"revision": "old", "files": ()})
    snapshot_path(store, old).mkdir(parents=True)
    record_model(store, old)
    stage.deploy(model)
    stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", model)


def test_a_node_that_cannot_get_the_model_leaves_the_version_to_one_that_has_it_and_follows_when_it_can(
    stage: Stage,
) -> None:
    model = stage.add(MODEL, 2**20)
    stage.put("near", model)
    (stage.hub.root / MODEL).rename(stage.root / "aside")
    job = stage.deploy(model, replicas=2)
    far = stage.join("far")
    stage.until(lambda: job.id in far.keeper.held())
    near = stage.join("near")
    near.tick()
    stage.until(lambda: stage.serves() == {"near": MODEL} and job.id in near.keeper.held())
    stage.until(lambda: "fetching again" in stage.report("far").detail)
    assert stage.report("far").lacks == MODEL
    assert stage.jobs.get(job.id).status is JobStatus.RUNNING
    (stage.root / "aside").rename(stage.hub.root / MODEL)
    stage.until(lambda: stage.serves() == {"far": MODEL, "near": MODEL})
    assert stage.report("far").lacks == ""


def test_a_version_whose_model_no_node_can_get_is_given_up(stage: Stage) -> None:
    served, model = stage.add(OTHER, 2**20), stage.add(MODEL, 2**20)
    stage.deploy(served, replicas=2)
    stage.join("far")
    stage.join("farther")
    stage.until(lambda: stage.serves() == {"far": OTHER, "farther": OTHER})
    (stage.hub.root / MODEL).unlink()
    ended = stage.over(stage.deploy(model, replicas=2))
    assert ended.status is JobStatus.FAILED
    assert f"knows no model {MODEL}" in str(ended.error)
    assert stage.serves() == {"far": OTHER, "farther": OTHER}


def test_what_lies_in_a_snapshot_without_a_record_is_not_taken_for_what_it_should_be(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    snapshot = snapshot_path(stage.home("far").models, model)
    snapshot.mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes(bytes(2**20))  # as an operator's copy that was cut off may leave it
    stage.deploy(model)
    stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", model)


def test_when_a_model_has_no_room_among_the_fetched_ones_the_least_recently_used_goes_and_none_that_is_deployed(
    stage: Stage,
) -> None:
    first, second, third = (stage.add(name, 10 * 2**20) for name in (MODEL, OTHER, THIRD))
    store = stage.home("far").models
    node = stage.join("far", fetched_models_max="25MiB")
    stage.deploy(first)
    stage.until(lambda: stage.serves() == {"far": MODEL})
    stage.deploy(second)
    stage.until(lambda: stage.serves() == {"far": OTHER})
    stage.deploy(first)
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert model_ids(store) == {MODEL, OTHER}
    stage.deploy(third)  # the first serves until then, and is what there would be to go back to
    stage.until(lambda: stage.serves() == {"far": THIRD})
    assert model_ids(store) == {MODEL, THIRD}
    assert tallies.read(stage.redis)[Tally.REMOVALS, "default"] == 1
    stage.leave(node)
    stage.join("far", fetched_models_max="15MiB")
    refused = stage.over(stage.deploy(second))
    assert "HEARTH_FETCHED_MODELS_MAX" in str(refused.error)
    assert model_ids(store) == {MODEL, THIRD}, "removed, though it would not have helped"


def test_what_no_node_fetched_is_never_removed(stage: Stage) -> None:
    first, second = stage.add(MODEL, 10 * 2**20), stage.add(OTHER, 10 * 2**20)
    stage.put("far", first)
    stage.join("far", fetched_models_max="15MiB")
    stage.deploy(first)
    stage.until(lambda: stage.serves() == {"far": MODEL})
    stage.deploy(second)
    stage.until(lambda: stage.serves() == {"far": OTHER})
    assert model_ids(stage.home("far").models) == {MODEL, OTHER}


def test_a_fetched_model_goes_when_another_revision_of_it_has_come(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    stage.deploy(model)
    node = stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    stage.leave(node)
    (stage.hub.root / MODEL).unlink()
    (stage.models / "models--acme--tiny").rename(stage.root / "aside")
    newer = stage.add(MODEL, 2**20)
    assert newer.revision != model.revision
    stage.deploy(newer)
    stage.join("far")
    stage.until(lambda: stage.serves() == {"far": MODEL})
    assert stage.is_whole("far", newer)
    assert [each.name for each in snapshot_path(stage.home("far").models, newer).parent.iterdir()] == [newer.revision]


def test_orders_that_a_killed_node_left_are_removed_when_a_node_starts(stage: Stage) -> None:
    model = stage.add(MODEL, 2**20)
    stage.deploy(model)
    run = stage.home("far").home / "run"
    run.mkdir(parents=True)
    left, new = run / "bring-old", run / "bring-new"
    for order in (left, new):
        order.write_text("{}")
    os.utime(left, (time.time() - 3600,) * 2)
    stage.join("far")
    assert [path.name for path in run.iterdir()] == ["bring-new"], "another node of this home may have written that"
