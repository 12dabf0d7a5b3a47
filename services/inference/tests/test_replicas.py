"""Two nodes of one deployment on a real store, with the stand-in for the engine of test_node."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine
from hearth_contracts.jobs import Job, JobStatus
from hearth_inference import process
from hearth_inference.config import InferenceSettings
from hearth_inference.node import Node
from hearth_jobs.deployment_record import Deployment
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect
from redis import Redis

from services.inference.tests.conftest import add_model
from services.inference.tests.nodes import Nodes, StandIn

GOOD, OTHER, BROKEN = "tiny/good", "tiny/other", "tiny/broken"


@dataclass(frozen=True)
class Driver(StandIn):
    """An engine that ends at once for a broken model, and for any where `is_sick`."""

    is_sick: list[bool] = field(default_factory=list)

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        if spec.model_id == BROKEN or self.is_sick:
            return [sys.executable, "-c", "raise SystemExit('ValueError: no good')"]
        return super().command(spec, model, port)


@dataclass
class Pair(Nodes):
    """Two nodes of one home; `a` has the first replica."""

    home: HomeSettings = field(kw_only=True)

    def deploy(self, model_id: str) -> Job:
        spec = {"engine": Engine.VLLM, "model_id": model_id, "adapter_ids": (), "served_name": "LLM"}
        return self.deployments.desire("default", replicas=2, **spec)[1]  # type: ignore[arg-type]

    def join(self, name: str) -> Node:
        settings = InferenceSettings(engine_python=Path(sys.executable), engine_grace_seconds=1)
        return self.start(name, self.home, Driver(settings), connect(S3Settings()), settings)

    @property
    def record(self) -> Deployment:
        record = self.deployments.get("default")
        assert record is not None
        return record


@pytest.fixture
def pair(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(process, "_ROUTES_SECONDS", 0.1)  # there is no gateway
    home = HomeSettings(home=tmp_path)
    for model_id in (GOOD, OTHER, BROKEN):
        add_model(home, model_id, lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{}")))
    pair = Pair(redis, home=home)
    yield pair
    pair.leave_all()


@pytest.fixture
def served(pair: Pair) -> tuple[Pair, Job, Node, Node]:
    """Both serve, and `a` carries the job."""
    job = pair.deploy(GOOD)
    a = pair.join("a")
    pair.until(lambda: job.id in a.keeper.held())
    b = pair.join("b")
    pair.until(lambda: pair.serves() == {"a": GOOD, "b": GOOD})
    return pair, job, a, b


def test_both_serve_and_one_carries_the_job(served: tuple[Pair, Job, Node, Node]) -> None:
    pair, job, a, b = served
    assert (job.id in a.keeper.held(), job.id in b.keeper.held()) == (True, False)
    assert len({node.url for node in pair.registry.live()}) == 2
    assert pair.replicas.claim("default", 2, "c") is None


def test_a_new_base_is_tried_by_one_node_while_the_others_serve_and_then_all_follow(
    served: tuple[Pair, Job, Node, Node],
) -> None:
    pair, old, a, b = served
    new = pair.deploy(OTHER)
    pair.until(lambda: new.id in a.keeper.held(), a)
    pair.until(lambda: a.coming is not None)
    assert b.coming is None
    assert pair.serves() == {"a": GOOD, "b": GOOD}
    pair.until(lambda: pair.serves().get("a") == OTHER, a)
    assert pair.serves() == {"a": OTHER, "b": GOOD}, "nobody is without an engine meanwhile"
    pair.until(lambda: pair.serves() == {"a": OTHER, "b": OTHER})
    assert pair.jobs.get(new.id).status is JobStatus.RUNNING
    assert pair.jobs.get(old.id).status is JobStatus.FINISHED


def test_a_version_that_fails_is_given_up_without_the_others_trying_it(served: tuple[Pair, Job, Node, Node]) -> None:
    pair, good, _, b = served
    engine = b.serving
    broken = pair.deploy(BROKEN)
    pair.until(lambda: pair.jobs.get(broken.id).status.is_over)
    assert pair.jobs.get(broken.id).status is JobStatus.FAILED
    assert "no good" in str(pair.jobs.get(broken.id).error)
    pair.until(lambda: pair.serves() == {"a": GOOD, "b": GOOD})
    assert b.serving is engine
    assert pair.jobs.get(good.id).status is JobStatus.RUNNING


def test_when_the_node_that_carries_the_job_leaves_another_carries_it_and_a_third_takes_the_replica(
    served: tuple[Pair, Job, Node, Node],
) -> None:
    pair, job, a, b = served
    pair.leave(a)
    pair.until(lambda: job.id in b.keeper.held())
    carried = pair.jobs.get(job.id)
    assert (carried.status, carried.stage, carried.progress) == (JobStatus.RUNNING, "serving", 1.0)
    assert pair.serves() == {"b": GOOD}
    c = pair.join("c")
    assert c.keeper.replica.index == 0
    pair.until(lambda: pair.serves() == {"b": GOOD, "c": GOOD})


def test_with_fewer_replicas_the_last_node_leaves_and_no_version_is_begun(
    served: tuple[Pair, Job, Node, Node],
) -> None:
    pair, job, a, b = served
    assert pair.deployments.scale("default", 1)
    assert b.tick() is False
    assert a.tick() is True
    pair.leave(b)
    assert pair.serves() == {"a": GOOD}
    assert [replica.index for replica in pair.replicas.held()] == [0]
    assert pair.jobs.get(job.id).status is JobStatus.RUNNING
    assert pair.jobs.get(job.id).attempt == 1


def test_a_node_that_cannot_serve_what_another_serves_tries_again_and_says_so(
    served: tuple[Pair, Job, Node, Node],
) -> None:
    pair, job, _, b = served
    assert isinstance(b.driver, Driver)
    b.driver.is_sick.append(True)
    assert b.serving is not None
    b.serving.health.kill("made sick")
    pair.until(lambda: b.failures > b.settings.engine_max_restarts)
    sick = next(node for node in pair.registry.live() if node.node_id == "b")
    assert sick.state is DeploymentState.LOADING
    assert "starting again" in sick.detail
    assert "no good" in sick.detail
    assert pair.record.desired is not None
    assert pair.jobs.get(job.id).status is JobStatus.RUNNING
    b.driver.is_sick.clear()
    pair.until(lambda: pair.serves() == {"a": GOOD, "b": GOOD})


def test_when_nobody_asks_all_nodes_leave_and_the_job_waits_for_a_request(
    served: tuple[Pair, Job, Node, Node],
) -> None:
    pair, job, a, b = served
    assert pair.record.desired is not None
    assert pair.deployments.sleep(pair.record.desired)
    assert (a.tick(), b.tick()) == (False, False)
    pair.leave(a)
    pair.leave(b)
    assert pair.registry.live() == []
    waits = pair.jobs.get(job.id)
    assert (waits.status, waits.stage.partition(":")[0]) == (JobStatus.RUNNING, "waiting for a request")
    assert pair.deployments.wake("default")
    c = pair.join("c")
    pair.until(lambda: pair.serves() == {"c": GOOD})
    assert job.id in c.keeper.held()
    assert pair.deployments.unasked_for("default") < 10


def test_undeployed_the_job_is_not_killed_while_another_node_still_has_its_engine(
    served: tuple[Pair, Job, Node, Node],
) -> None:
    pair, job, a, b = served
    pair.deployments.undeploy("default")
    assert (a.tick(), b.tick()) == (False, False)
    pair.leave(a)
    assert pair.jobs.get(job.id).status is JobStatus.RUNNING  # the judge ends it once b's report is gone
    assert [node.runs for node in pair.registry.live()] == [(job.id,)]
    pair.leave(b)
    assert pair.registry.live() == []
    assert pair.replicas.held() == []
