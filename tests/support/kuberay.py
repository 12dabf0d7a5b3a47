"""A Ray cluster of the chart's pods as KubeRay would make them, on loopback: their commands, mounts, read-only roots.

Each container is a process in a mount namespace of its own, for which one must be root, or may play it (user
namespaces). Left out is what a cluster adds: scheduling, images, a network, limits, users.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from hearth_jobs.guard import end, guarded
from hearth_local.paths import CHECKOUT, env_python, envs_folder

from tests.support.helm import Chart, Doc
from tests.support.ray_nodes import HEAD_IP, NODE_GRACE, RayCluster
from tests.support.servers import free_port

SWITCHES = {"true", "false"}
VALUED = {"include-dashboard", "log-color"}
"""What KubeRay passes on as `--name=true`; other parameters that are true or false become switches."""

_SERVICE = re.compile(r"(?<=-head-svc[.])(\S+):6379$")
"""The head's address in the rendered chart; here each cluster's head has another port."""
_ITS_OWN = re.compile(r"^(--node-manager-port|--metrics-export-port|--dashboard-agent-listen-port)=.*")
"""Ports that every node takes, so that here, where all have one network, each takes another."""

IN_A_CONTAINER = r"""
set -e
for volume in $WRITABLE; do mount --bind "$volume" "$volume"; done
mount --bind "$SHM" /dev/shm
mount --bind "$POD/hosts" /etc/hosts
for folder in $BELOW_TMP; do mount --rbind "$folder" "$POD/tmp/${folder#/tmp/}"; done
mount --rbind "$POD/tmp" /tmp
unset TMPDIR TMP TEMP
mount -o remount,bind,ro /
cd /tmp
exec "$@"
"""
AMONG_A_PODS_PROCESSES = r"""
nsenter --pid="$PROCESSES" $USERS -- "$@" & # its child is there, and is not told what it is told
trap 'kill -TERM $(cat /proc/$!/task/$!/children)' TERM
wait $!; wait $!
"""
A_PODS_FIRST_PROCESS = "echo; while :; do sleep 600; done"
"""Pause: it reaps what has lost its parent, as it waits."""


def start_command(params: Mapping[str, str], container: Doc, *, head: bool, address: str) -> list[str]:
    """The command that KubeRay makes for Ray's container in a pod of a group with these `rayStartParams`.

    From ray-operator/controllers/ray/common/pod.go of its release 1.6 (`setMissingRayStartParams`,
    `generateRayStartCommand`, `convertParamMap`). `address` is that of the head's Service.
    """
    found = {"metrics-export-port": "8080", "dashboard-agent-listen-port": "52365", **params, "block": "true"}
    found.setdefault(*(("dashboard-host", "0.0.0.0") if head else ("address", address)))
    limits = container["resources"]["limits"]
    found.setdefault("num-cpus", str(limits["cpu"]))
    if "nvidia.com/gpu" in limits:
        found.setdefault("num-gpus", str(limits["nvidia.com/gpu"]))
    words = ["ray", "start", *(["--head"] if head else [])]
    for name, value in sorted(found.items()):
        if value in SWITCHES and name not in VALUED:
            words += [f"--{name}"] if value == "true" else []
        else:
            words.append(f"--{name}={value}")
    return words


def hidden_by_tmp() -> list[Path]:
    """What the processes are made of that is below /tmp here, in whose place a pod has a /tmp of its own."""
    pythons = [Path(sys.executable), *(env_python(name) for name in ("ray", "training"))]
    parts = {CHECKOUT, envs_folder(), Path(sys.prefix), *(python.resolve().parents[1] for python in pythons)}
    below = {path for part in parts for path in (part, part.resolve()) if path.is_relative_to("/tmp")}
    return sorted(path for path in below if not below & set(path.parents))


@dataclass(frozen=True)
class Pod:
    """What the containers of a pod share: /tmp, /dev/shm, and an address, here one of loopback's."""

    folder: Path
    shm: Path
    ip: str
    pause: "subprocess.Popen[bytes] | None" = None  # whose processes they see, and no others, if they share those too

    def within(self, writable: Sequence[Path] = ()) -> list[str]:
        """The words before a command that run it in a container of this pod, which may write to `writable` besides.

        They are none of /tmp: it has the pod's own.
        """
        lists = {"WRITABLE": writable, "BELOW_TMP": hidden_by_tmp()}
        places = {"POD": self.folder, "SHM": self.shm, **{name: " ".join(map(str, lists[name])) for name in lists}}
        setting = [f"{name}={value}" for name, value in places.items()]
        container = ["bash", "-c", IN_A_CONTAINER, "container"]
        if self.pause is None:
            return ["env", *setting, "unshare", *as_root(), "--mount", *container]
        own = f"/proc/{self.pause.pid}/ns"
        users = f"--user={own}/user --preserve-credentials" if as_root() else ""
        setting += [f"PROCESSES={own}/pid_for_children", f"USERS={users}"]
        entering = ["bash", "-c", AMONG_A_PODS_PROCESSES, "pod"]
        return ["env", *setting, *entering, "unshare", "--mount", "--mount-proc", *container]


def as_root() -> list[str]:
    """The word of unshare's for those who are not."""
    return [] if os.geteuid() == 0 else ["--map-root-user"]


def pause() -> "subprocess.Popen[bytes]":
    """The first process of a pod whose containers share theirs; with it all end."""
    words = ["unshare", *as_root(), "--pid", "--fork", "--kill-child", "bash", "-c", A_PODS_FIRST_PROCESS]
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    return process


class KubeRayCluster(RayCluster):
    """Its nodes are those of a rendered chart: the head, the groups' workers, and the sidecar of the training pod."""

    def __init__(self, scratch: Path, chart: Chart, secrets: Mapping[str, str]) -> None:
        super().__init__(scratch, free_port())
        self.chart = chart
        self._secrets = secrets
        self.spec = chart.of("RayCluster")["ray"]["spec"]
        self.pods: list[Pod] = []
        assert chart.pods["training"]["shareProcessNamespace"]
        self.training = replace(self._pod(), pause=pause())  # a driver joins the node whose processes it sees

    @property
    def address(self) -> str:
        """As the worker is told."""
        return self.variables(self.chart.containers["training"])["HEARTH_RAY_ADDRESS"]

    def variables(self, container: Doc) -> dict[str, str]:
        """A container's environment, with `secrets` for what comes from Secrets; what those lack is left out."""
        found = {each["name"]: each.get("value", self._secrets.get(each["name"])) for each in container.get("env", [])}
        return {name: self._with_port(value) for name, value in found.items() if value is not None}

    def _with_port(self, word: str) -> str:
        return _SERVICE.sub(rf"\1:{self.port}", word)

    def start_head(self) -> None:
        group = self.spec["headGroupSpec"]
        container = group["template"]["spec"]["containers"][0]
        assert "port" not in group["rayStartParams"]  # Ray's own, which the address names
        params = {**group["rayStartParams"], "port": str(self.port)}
        words = start_command(params, container, head=True, address="")
        self._start(self._pod(HEAD_IP), container, words)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """A pod of the first group. It sees the models where they are."""
        group = self.spec["workerGroupSpecs"][0]
        container = group["template"]["spec"]["containers"][0]
        words = start_command(group["rayStartParams"], container, head=False, address=self.address)
        return self._start(self._pod(), container, words)

    def start_sidecar(self) -> "subprocess.Popen[bytes]":
        (container,) = self.chart.pods["training"]["initContainers"]
        return self._start(self.training, container, container["command"])

    def _pod(self, ip: str | None = None) -> Pod:
        number = len(self.pods)
        folder = self.scratch / f"pod-{number}"
        for path in (Path("/tmp"), *hidden_by_tmp()):
            (folder / path.relative_to("/")).mkdir(parents=True)
        head = self.chart.of("RayCluster")["ray"]["metadata"]
        known = {"127.0.0.1": "localhost", HEAD_IP: f"{head['name']}-head-svc.{head['namespace']}.svc"}
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for address, name in known.items()))
        pod = Pod(folder, Path(mkdtemp(prefix="pod", dir="/dev/shm")), ip or f"127.0.0.{number + 10}")
        self.pods.append(pod)
        return pod

    def _start(self, pod: Pod, container: Doc, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        ray, *arguments = map(self._with_port, words)
        assert ray == "ray"  # on the image's path
        arguments = [_ITS_OWN.sub(lambda found: f"{found[1]}={free_port()}", each) for each in arguments]
        command = [str(env_python("ray").with_name("ray")), *arguments, f"--node-ip-address={pod.ip}"]
        environment = {**os.environ, "HOME": "/tmp", "CUDA_VISIBLE_DEVICES": "", **self.variables(container)}
        with (pod.folder / "ray.log").open("ab") as log:
            node = guarded([*pod.within(), *command], grace=NODE_GRACE, stdout=log, stderr=log, env=environment)
        self.nodes.append(node)
        return node

    def left_in_tmp(self) -> list[Path]:
        """What runs have left on the nodes."""
        ours = {path.parts[2] for path in hidden_by_tmp()}
        return [path for path in self.scratch.glob("*/tmp/hearth-*") if path.name not in ours and path.exists()]

    def logs(self) -> str:
        """What `ray start` said on each node."""
        return "\n".join(f"{path}:\n{path.read_text()}" for path in sorted(self.scratch.glob("*/ray.log")))


def _refuse_without_mounts(pod: Pod) -> None:
    """Fail in words, where the pods' nodes would each fail in a log of their own and the tests run into timeouts."""
    done = subprocess.run([*pod.within(), "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        "no mounts of a container's own can be made here, which the chart's Ray pods need for their /tmp and /dev/shm: "
        f"run the tests as root with CAP_SYS_ADMIN, or as a user who may make user namespaces\n{done.stderr.strip()}"
    )


@contextmanager
def kuberay_cluster(chart: Chart, secrets: Mapping[str, str]) -> Iterator[KubeRayCluster]:
    """Without nodes; those that are started are ended at the end."""
    with TemporaryDirectory(prefix="pods", ignore_cleanup_errors=True) as scratch:
        cluster = KubeRayCluster(Path(scratch), chart, secrets)
        try:
            _refuse_without_mounts(cluster.training)
            yield cluster
        finally:
            for node in cluster.nodes:
                end(node, NODE_GRACE)
            if cluster.training.pause is not None:
                cluster.training.pause.kill()
                cluster.training.pause.communicate()
            for pod in cluster.pods:
                shutil.rmtree(pod.shm, ignore_errors=True)
