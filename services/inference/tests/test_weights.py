"""Nodes whose own store lacks the model: it comes from a real hub-compatible server or a real S3, or not at all."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from hearth_contracts.base import now
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_contracts.jobs import Job, JobStatus
from hearth_contracts.models import StoredModel
from hearth_inference import process
from hearth_inference.config import InferenceSettings
from hearth_inference.holdings import Holdings
from hearth_inference.keeper import Keeper
from hearth_inference.node import Node
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_models.share import PREFIX, share_model
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import (
    delete_model,
    describe_model,
    find_model,
    model_folder,
    record_model,
    snapshot_path,
)
from hearth_storage.objects import ARTIFACTS, connect
from minio import Minio
from redis import Redis

from services.inference.tests.conftest import Place, wait_for
from services.inference.tests.test_node import StandIn
from tests.support.hub import HubServer
from tests.support.servers import free_port

MODEL, OTHER = "acme/tiny", "acme/other"
WEIGHTS = "model.safetensors"
SIZE = 24 * 2**20  # the hub's client writes portions of 10 MiB


class Untroubled:
    """Work that nobody ends."""

    def check(self) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def report(self, progress: float | None = None, stage: str | None = None) -> None: ...


@dataclass
class Stage:
    """Management's store, the hub, S3, and nodes with a home of their own each."""

    root: Path
    redis: Redis
    s3: Minio
    s3_settings: S3Settings
    hub: HubServer
    open: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.redis)
        self.deployments, self.registry = DeploymentStore(self.redis, self.jobs), NodeRegistry(self.redis)
        self.replicas = ReplicaStore(self.redis)
        self.models = self.root / "management" / "models"

    def add(self, model_id: str, size: int = SIZE, *, on_hub: bool = True) -> StoredModel:
        """What a download leaves in management's store; a model that is not on the hub is as imported."""
        origin = self.hub.root / model_id
        origin.mkdir(parents=True)
        (origin / WEIGHTS).write_bytes(os.urandom(size))
        (origin / "config.json").write_text("{}")
        revision = self.hub.commit(model_id) if on_hub else "imported"
        snapshot = model_folder(self.models, model_id) / "snapshots" / revision
        snapshot.parent.mkdir(parents=True)
        origin.rename(snapshot)
        if on_hub:
            origin.symlink_to(snapshot)
        files = describe_model(snapshot)
        model = StoredModel(
            model_id=model_id, revision=revision, size_bytes=size, license=None, created_at=now(), on_hub=on_hub,
            files=files,
        )  # fmt: skip
        record_model(self.models, model)
        return model

    def deploy(self, model: StoredModel, replicas: int = 1) -> Job:
        return self.deployments.desire(
            "default", engine=Engine.VLLM, model_id=model.model_id, adapter_ids=(), served_name="LLM",
            replicas=replicas, model=model,
        )[1]  # fmt: skip

    def home(self, name: str) -> HomeSettings:
        return HomeSettings(home=self.root / name)

    def join(self, name: str) -> Node:
        """A node on another host, as serve.run makes it."""
        record = self.deployments.get("default")
        replica = self.replicas.claim("default", record.replicas, name) if record else None
        assert replica is not None
        keeper = Keeper(self.jobs, self.registry, self.replicas, replica)
        keeper.__enter__()
        settings = InferenceSettings(engine_python=Path("/bin/true"), engine_grace_seconds=1, engine_max_restarts=1)

        def others() -> list[NodeReport]:
            return [node for node in self.registry.live() if node.node_id != name]

        home = self.home(name)
        holdings = Holdings("default", home, self.deployments, self.jobs, keeper, name, others)
        node = Node("default", settings, home, StandIn(settings), self.deployments, self.s3, keeper, holdings)
        self.open.append(node)
        return node

    def leave(self, node: Node) -> None:
        """What serve.run does at the end."""
        self.open.remove(node)
        node.shut_down()
        node.keeper.__exit__()

    def report(self, name: str) -> NodeReport:
        return next(node for node in self.registry.live() if node.node_id == name)

    def until(self, condition: Callable[[], object], *nodes: Node) -> None:
        """Let the nodes work, all without any named, until this is so; the pause before a new try is not waited for."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (self.registry.live(), self.jobs.all())
            for node in nodes or self.open:
                node.not_before = 0.0
                node.tick()
            time.sleep(0.05)

    def serves(self) -> dict[str, str]:
        """What each node answers requests for."""
        ready = (node for node in self.registry.live() if node.state is DeploymentState.READY)
        return {node.node_id: node.model_id for node in ready}

    def over(self, job: Job) -> Job:
        self.until(lambda: self.jobs.get(job.id).status.is_over)
        return self.jobs.get(job.id)

    def is_whole(self, name: str, model: StoredModel) -> bool:
        """Whether this node's store has the model, file by file, and nothing else of it."""
        store = self.home(name).models
        if find_model(store, model.model_id) != model:
            return False
        here = snapshot_path(store, model)
        return describe_model(here) == model.files and not (here.parents[1] / "partial").exists()


@pytest.fixture
def stage(
    redis: Redis, s3: Minio, s3_settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    monkeypatch.setattr(process, "_ROUTES_SECONDS", 0.1)  # there is no gateway
    (tmp_path / "hub").mkdir()
    with HubServer(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        stage = Stage(tmp_path, redis, s3, s3_settings, hub)
        yield stage
        for node in [*stage.open]:
            stage.leave(node)


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
    assert not [path for path in store.rglob("*") if path.is_file() and path.name != "config.json"]


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


def put_into(stage: Stage, name: str, model: StoredModel) -> None:
    """A store that has the model already."""
    store = stage.home(name).models
    snapshot_path(store, model).parent.mkdir(parents=True)
    snapshot_path(store, model).symlink_to(snapshot_path(stage.models, model))
    record_model(store, model)


def test_a_node_that_cannot_get_the_model_leaves_the_version_to_one_that_has_it_and_follows_when_it_can(
    stage: Stage,
) -> None:
    model = stage.add(MODEL, 2**20)
    put_into(stage, "near", model)
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
