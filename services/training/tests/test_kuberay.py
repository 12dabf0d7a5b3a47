"""A run on the nodes of the chart's Ray cluster, each started by the command that its pod would be started by."""

import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hearth_contracts.finetune import Resources
from hearth_contracts.jobs import JobStatus
from hearth_storage.adapters import fetch_adapter
from hearth_storage.config import HomeSettings

from services.training.tests.place import PATIENCE_SECONDS, SHORT, Place, add_base, wait_for
from tests.support.helm import VALUES, render, unpack
from tests.support.kuberay import KubeRayCluster, kuberay_cluster

pytestmark = pytest.mark.timeout(600)
SMALL = (
    "training.ray.enabled=true,training.ray.tokenSecret=ray-token,training.sharedMemory=200Mi,"
    "training.ray.head.sharedMemory=200Mi,training.ray.workers.sharedMemory=200Mi,"
    "training.ray.workers.resources.limits.cpu=1,training.ray.workers.replicas=2,"
    "training.ray.settings.RAY_gcs_rpc_server_reconnect_timeout_s=10"  # a minute, but for tests
)
LONG = SHORT.model_copy(update={"max_steps": 400, "save_steps": 20})


@pytest.fixture
def apart(place: Place) -> Iterator[Place]:
    """A place whose home is not under /tmp, of which each pod has one of its own."""
    with TemporaryDirectory(prefix="hearth", dir="/var/tmp") as folder:
        place.home = HomeSettings(home=Path(folder))
        add_base(place.home)
        yield place


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeRayCluster]:
    chart = render(unpack(tmp_path / "helm"), (*VALUES["defaults"], "--set", SMALL))
    with kuberay_cluster(chart, {"RAY_AUTH_TOKEN": secrets.token_hex(16)}) as cluster:
        yield cluster


@contextmanager
def training_pod(place: Place, cluster: KubeRayCluster) -> Iterator[None]:
    """The worker of the rendered training pod, with the stores of the test."""
    place.ray = cluster
    rendered = cluster.variables(cluster.chart.containers["training"])
    variables = {name: value for name, value in rendered.items() if "S3" not in name}
    with place.worker(within=cluster.training.within([place.home.home]), variables=variables):
        yield


def start(cluster: KubeRayCluster) -> None:
    """All pods but the training pod's own container."""
    cluster.start_head()
    for _ in range(cluster.spec["workerGroupSpecs"][0]["replicas"]):
        cluster.start_worker()
    cluster.start_sidecar()


@contextmanager
def kubelet(nodes: "list[tuple[subprocess.Popen[bytes], Callable[[], subprocess.Popen[bytes]]]]") -> Iterator[None]:
    """Starts each of them anew when it has ended."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            for number, (node, again) in enumerate(nodes):
                if node.poll() is not None:
                    nodes[number] = (again(), again)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_run_waits_for_the_cluster_and_trains_on_the_pods_that_the_chart_renders(
    apart: Place, cluster: KubeRayCluster, tmp_path: Path
) -> None:
    finetune = apart.begin(apart.dataset().id, SHORT, Resources(workers=2))
    with training_pod(apart, cluster):
        wait_for(
            lambda: apart.job(finetune).stage == "waiting for the Ray cluster",
            PATIENCE_SECONDS,
            lambda: apart.told(finetune),
        )
        start(cluster)
        job = apart.over(finetune)
    assert (job.status, job.attempt) == (JobStatus.FINISHED, 1), apart.told(finetune) + cluster.logs()
    assert list(apart.curve(finetune)) == list(range(1, 11))
    fetch_adapter(apart.s3, finetune.adapter_id, tmp_path)  # raises if a hash is wrong
    assert cluster.left_in_tmp() == []


@pytest.mark.long
def test_the_training_pods_node_alone_is_lost_and_the_run_goes_on_once_it_is_started_again(
    apart: Place, cluster: KubeRayCluster
) -> None:
    finetune = apart.begin(apart.dataset().id, LONG, Resources(workers=2))
    start(cluster)
    with training_pod(apart, cluster):
        apart.until_step(finetune, 60)
        cluster.lose(cluster.nodes[-1])
        with kubelet([(cluster.nodes[-1], cluster.start_sidecar)]):
            job = apart.over(finetune)
    assert (job.status, job.attempt) == (JobStatus.FINISHED, 1), apart.told(finetune) + cluster.logs()
    assert apart.resumed_at(finetune) >= 40
    assert list(apart.curve(finetune)) == list(range(1, 401))


@pytest.mark.long
def test_the_head_is_lost_and_begins_anew_at_once_and_the_nodes_as_they_end(
    apart: Place, cluster: KubeRayCluster
) -> None:
    finetune = apart.begin(apart.dataset().id, LONG, Resources(workers=2))
    start(cluster)
    with training_pod(apart, cluster):
        apart.until_step(finetune, 60)
        head, *nodes = cluster.nodes
        cluster.lose(head)
        cluster.start_head()
        starts = [cluster.start_worker, cluster.start_worker, cluster.start_sidecar]
        with kubelet(list(zip(nodes, starts, strict=True))):
            job = apart.over(finetune)
    assert (job.status, job.attempt) == (JobStatus.FINISHED, 1), apart.told(finetune) + cluster.logs()
    assert apart.resumed_at(finetune) >= 40
    assert list(apart.curve(finetune)) == list(range(1, 401))


def test_the_head_is_lost_and_the_run_goes_on_once_the_cluster_has_begun_anew(
    apart: Place, cluster: KubeRayCluster
) -> None:
    finetune = apart.begin(apart.dataset().id, LONG, Resources(workers=2))
    start(cluster)
    with training_pod(apart, cluster):
        apart.until_step(finetune, 60)
        cluster.lose(cluster.nodes[0])
        for node in cluster.nodes[1:]:
            node.wait(PATIENCE_SECONDS)  # Ray ends them
        start(cluster)  # as kubelet and KubeRay do
        job = apart.over(finetune)
    assert (job.status, job.attempt) == (JobStatus.FINISHED, 1), apart.told(finetune) + cluster.logs()
    assert apart.resumed_at(finetune) >= 40
    assert list(apart.curve(finetune)) == list(range(1, 401))
