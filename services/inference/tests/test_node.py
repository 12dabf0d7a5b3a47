"""The node on a real store, with a stand-in for the engine that starts at once and can be made to hang."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine
from hearth_contracts.jobs import Job, JobStatus
from hearth_inference import health
from hearth_inference.config import InferenceSettings
from hearth_inference.node import Node
from hearth_jobs.nodes import NodeRegistry
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import find_model, snapshot_path
from hearth_storage.objects import connect
from redis import Redis

from services.inference.tests.conftest import add_model
from services.inference.tests.nodes import ENGINE, Nodes, StandIn


@pytest.fixture
def node(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    for name, seconds in (("LOOK", 0.1), ("PROBE", 0.2), ("SILENT", 2.0), ("HUNG", 5.0)):
        monkeypatch.setattr(health, f"{name}_SECONDS", seconds)
    home = HomeSettings(home=tmp_path)
    add_model(home, "tiny/llama", lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{}")))
    settings = InferenceSettings(engine_python=Path(sys.executable), engine_grace_seconds=1)
    nodes = Nodes(redis)
    yield nodes.start("host:1", home, StandIn(settings), connect(S3Settings()), settings)
    nodes.leave_all()


def deploy(node: Node) -> Job:
    options: dict[str, Any] = {"engine": Engine.VLLM, "model_id": "tiny/llama", "adapter_ids": (), "served_name": "LLM"}
    return node.deployments.desire("default", **options)[1]


def tick_until(node: Node, condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        node.tick()
        time.sleep(0.05)


def state(node: Node) -> DeploymentState | None:
    return next((report.state for report in NodeRegistry(node.deployments.redis).live()), None)


def engine(node: Node) -> psutil.Process:
    assert node.serving is not None
    port = node.serving.url.rpartition(":")[2]
    lines = {each: each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])}
    return next(p for p, line in lines.items() if line[-1:] == [port] and not any("guard.py" in word for word in line))


def is_dead(process: psutil.Process) -> bool:
    """Whether nothing of it works any more; whoever adopted it may not have asked for its exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_engine_that_hangs_is_not_ready_though_the_main_thread_does_nothing_and_then_is_replaced(node: Node) -> None:
    job = deploy(node)
    tick_until(node, lambda: state(node) is DeploymentState.READY)
    hung = engine(node)
    hung.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while state(node) is DeploymentState.READY:  # nobody ticks: the main thread may be waiting for that very engine
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tick_until(node, lambda: state(node) is DeploymentState.READY)
    assert is_dead(hung)
    assert node.holdings.jobs.get(job.id).status is JobStatus.RUNNING
    assert node.serving is not None


def test_undeployed_the_job_is_killed_when_its_engine_is_gone(node: Node) -> None:
    job = deploy(node)
    tick_until(node, lambda: state(node) is DeploymentState.READY)
    process = engine(node)
    node.deployments.undeploy("default")
    assert node.tick() is False
    node.shut_down()
    assert is_dead(process)
    assert node.holdings.jobs.get(job.id).status is JobStatus.KILLED
    assert state(node) is None


class OnCluster(StandIn):
    """An engine that begins only when there is room on a cluster, and gives up after a while, as vLLM does on Ray's."""

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        waits = (
            "import pathlib, sys, time\n"
            f"room, end = pathlib.Path({str(model / 'room')!r}), time.monotonic() + 2\n"
            "print('Waiting for creating a placement group of specs', flush=True)\n"
            "while not room.exists():\n"
            "    time.sleep(0.02)\n"
            "    if time.monotonic() > end: sys.exit('ValueError: Cannot provide a placement group')\n"
            "print('(CpuWorker pid=1) begins', flush=True)\n"
        )
        return [sys.executable, "-c", waits + ENGINE, "--port", str(port)]


@pytest.fixture
def crowded(node: Node) -> Path:
    """The node's engines are on a cluster; there is room while this file is there."""
    node.settings = node.settings.model_copy(update={"engine_start_seconds": 1.0, "engine_max_restarts": 1})
    node.driver = OnCluster(node.settings)
    model = find_model(node.home.models, "tiny/llama")
    assert model is not None
    return snapshot_path(node.home.models, model) / "room"


def test_waiting_for_room_is_told_and_is_no_part_of_a_start(node: Node, crowded: Path) -> None:
    job = deploy(node)
    tick_until(node, lambda: node.holdings.jobs.get(job.id).stage == "waiting for room on the Ray cluster")
    began = time.monotonic()
    tick_until(node, lambda: time.monotonic() - began > 1.2)
    crowded.touch()
    tick_until(node, lambda: state(node) is DeploymentState.READY)


def test_a_version_that_served_waits_for_room_as_long_as_it_takes(node: Node, crowded: Path) -> None:
    crowded.touch()
    job = deploy(node)
    tick_until(node, lambda: state(node) is DeploymentState.READY)
    crowded.unlink()
    gone = []
    engine(node).kill()

    def has_waited_thrice() -> bool:
        if node.coming is not None and node.coming not in gone:
            gone.append(node.coming)
        return len(gone) == 4

    tick_until(node, has_waited_thrice)
    assert node.holdings.jobs.get(job.id).status is JobStatus.RUNNING
    crowded.touch()
    tick_until(node, lambda: state(node) is DeploymentState.READY)


def test_a_new_version_that_finds_no_room_is_failed_in_the_engines_words(node: Node, crowded: Path) -> None:
    job = deploy(node)
    tick_until(node, lambda: node.holdings.jobs.get(job.id).status is JobStatus.FAILED)
    assert "Cannot provide a placement group" in str(node.holdings.jobs.get(job.id).error)


def test_a_starting_engine_whose_log_was_taken_away_goes_on(node: Node, crowded: Path) -> None:
    job = deploy(node)
    tick_until(node, lambda: node.holdings.jobs.get(job.id).stage == "waiting for room on the Ray cluster")
    assert node.coming is not None
    node.coming.log.unlink()
    node.tick()
    crowded.touch()
    tick_until(node, lambda: state(node) is DeploymentState.READY)
