"""Nodes of the deployment `default` on a real store, in this process, with a stand-in for the engine."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hearth_contracts.base import now
from hearth_contracts.deploy import DeploymentSpec, DeploymentState, Engine, NodeReport
from hearth_contracts.jobs import Job
from hearth_contracts.models import StoredModel
from hearth_inference.config import InferenceSettings
from hearth_inference.engines.base import EngineDriver
from hearth_inference.engines.vllm import VllmDriver
from hearth_inference.holdings import Holdings
from hearth_inference.keeper import Keeper
from hearth_inference.node import Node
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.model_store import describe_model, find_model, model_folder, record_model, snapshot_path
from minio import Minio
from redis import Redis

from tests.support.hub import HubServer

WEIGHTS = "model.safetensors"
SIZE = 24 * 2**20  # the hub's client writes portions of 10 MiB

ENGINE = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": []}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
port = sys.argv[sys.argv.index("--port") + 1]
ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


class StandIn(VllmDriver):
    """vLLM's driver, but for the program that it starts."""

    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        return [sys.executable, "-c", ENGINE, "--port", str(port)]


@dataclass
class Nodes:
    """Makes nodes as serve.run does, and lets them work."""

    redis: Redis
    open: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.redis)
        self.deployments, self.registry = DeploymentStore(self.redis, self.jobs), NodeRegistry(self.redis)
        self.replicas = ReplicaStore(self.redis)

    def start(
        self, name: str, home: HomeSettings, driver: EngineDriver, s3: Minio, settings: InferenceSettings
    ) -> Node:
        """A node that holds the first replica that nobody holds."""
        record = self.deployments.get("default")
        replica = self.replicas.claim("default", record.replicas if record else 1, name)
        assert replica is not None
        keeper = Keeper(self.jobs, self.registry, self.replicas, replica)
        keeper.__enter__()

        def others() -> list[NodeReport]:
            return [node for node in self.registry.live() if node.node_id != name]

        holdings = Holdings("default", home, self.deployments, self.jobs, keeper, name, others)
        node = Node("default", settings, home, driver, self.deployments, s3, keeper, holdings)
        self.open.append(node)
        return node

    def leave(self, node: Node) -> None:
        """What serve.run does at the end."""
        self.open.remove(node)
        node.shut_down()
        node.keeper.__exit__()

    def leave_all(self) -> None:
        for node in [*self.open]:
            self.leave(node)

    def report(self, name: str) -> NodeReport:
        return next(node for node in self.registry.live() if node.node_id == name)

    def serves(self) -> dict[str, str]:
        """What each node answers requests for."""
        ready = (node for node in self.registry.live() if node.state is DeploymentState.READY)
        return {node.node_id: node.model_id for node in ready}

    def until(self, condition: Callable[[], object], *nodes: Node) -> None:
        """Let the nodes work, all without any named, until this is so; the pause before a new try is not waited for."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (self.registry.live(), self.jobs.all())
            for node in nodes or self.open:
                node.not_before = 0.0
                node.tick()
            time.sleep(0.05)

    def over(self, job: Job) -> Job:
        self.until(lambda: self.jobs.get(job.id).status.is_over)
        return self.jobs.get(job.id)


@dataclass
class Stage(Nodes):
    """Management's store, the hub, S3, and nodes with a home of their own each."""

    root: Path = field(kw_only=True)
    s3: Minio = field(kw_only=True)
    s3_settings: S3Settings = field(kw_only=True)
    hub: HubServer = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def join(self, name: str, **settings: str) -> Node:
        """A node on another host."""
        asked = {"engine_python": "/bin/true", "engine_grace_seconds": 1, "engine_max_restarts": 1, **settings}
        chosen = InferenceSettings.model_validate(asked)
        return self.start(name, self.home(name), StandIn(chosen), self.s3, chosen)

    def put(self, name: str, model: StoredModel) -> None:
        """That node's store has the model already."""
        store = self.home(name).models
        snapshot_path(store, model).parent.mkdir(parents=True)
        snapshot_path(store, model).symlink_to(snapshot_path(self.models, model))
        record_model(store, model)

    def is_whole(self, name: str, model: StoredModel) -> bool:
        """Whether this node's store has the model, file by file, and nothing else of it."""
        store = self.home(name).models
        if find_model(store, model.model_id) != model:
            return False
        here = snapshot_path(store, model)
        left = {path.name for path in here.parents[1].iterdir()}
        return describe_model(here) == model.files and left <= {"hearth.json", "fetched", "snapshots"}
