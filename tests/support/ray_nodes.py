"""A Ray cluster on loopback: each node the processes that `ray start` makes of one, under a guard of its own."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from hearth_jobs.guard import descendants, end, guarded, kill_all
from hearth_local.paths import env_python
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.support.servers import free_port

HEAD_IP = "127.0.0.2"  # Ray takes 127.0.0.1 for the host's own address, where nobody listens then
MEMORY = 100 * 2**20  # bytes of each node's object store
NODE_GRACE = 1.0
RUN = ("ray::RayTrainWorker", "ray::TrainController", "ray::Desk")
"""What Ray calls the processes of a run; what else there is belongs to the node or is shared by all runs."""


@dataclass
class RayCluster:
    """A head, with which a driver on this host goes, and nodes that join it; each has one core."""

    scratch: Path
    port: int
    environment: str = "ray"  # whose Ray it is, and what runs on it
    resources: dict[str, float] = field(default_factory=dict)  # what each node has besides its core
    nodes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{HEAD_IP}:{self.port}"

    def start_node(self) -> "subprocess.Popen[bytes]":
        """The head at first, then one more."""
        ip = f"127.0.0.{len(self.nodes) + 2}"
        which = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.scratch}"]
        arguments = [f"--address={self.address}"] if self.nodes else which
        command = [
            env_python(self.environment).with_name("ray"), "start", "--block", f"--node-ip-address={ip}",
            "--num-cpus=1", f"--resources={json.dumps(self.resources)}", "--disable-usage-stats",
            f"--object-store-memory={MEMORY}", *arguments,
        ]  # fmt: skip
        environment = {**os.environ, "TMPDIR": str(self.scratch), "CUDA_VISIBLE_DEVICES": ""}
        with (self.scratch / f"node-{len(self.nodes)}.log").open("wb") as log:
            node = guarded(list(map(str, command)), grace=NODE_GRACE, stdout=log, stderr=log, env=environment)
        self.nodes.append(node)
        return node

    def lose(self, node: "subprocess.Popen[bytes]") -> None:
        """As if the machine had lost its power: every process of it, at once."""
        node.send_signal(signal.SIGSTOP)  # or its guard would see to an orderly end
        kill_all(lambda: descendants(node.pid))
        node.kill()
        node.wait()

    def trainers(self) -> list[str]:
        """What runs on it for a job: Ray names its processes for what they do."""
        found = []
        for pid in {pid for node in self.nodes if node.poll() is None for pid in descendants(node.pid)}:
            with suppress(psutil.Error):
                name = " ".join(psutil.Process(pid).cmdline())
                if name.startswith(RUN):
                    found.append(name.strip())
        return found


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(60), wait=wait_fixed(0.1), reraise=True)
def _wait_for_head(cluster: RayCluster) -> None:
    socket.create_connection((HEAD_IP, cluster.port), 5).close()


@contextmanager
def ray_cluster(nodes: int, **options: Any) -> Iterator[RayCluster]:
    """So many nodes, the head answering, the others starting. `options` are RayCluster's."""
    # Not pytest's folder: the path of a socket is 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as scratch:
        cluster = RayCluster(Path(scratch), free_port(), **options)
        try:
            cluster.start_node()
            _wait_for_head(cluster)
            for _ in range(nodes - 1):
                cluster.start_node()
            yield cluster
        finally:
            for node in cluster.nodes:
                end(node, NODE_GRACE)
