"""A run on the nodes of the chart's Ray cluster, each started by the command that its pod would be started by."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hearth_contracts.finetune import Resources
from hearth_contracts.jobs import JobStatus
from hearth_storage.adapters import fetch_adapter
from hearth_storage.config import HomeSettings

from services.training.tests.place import SHORT, Place, add_base
from tests.support.helm import VALUES, render, unpack
from tests.support.kuberay import kuberay_cluster

pytestmark = pytest.mark.timeout(600)
SMALL = (
    "training.ray.enabled=true,training.ray.tokenSecret=ray-token,training.sharedMemory=200Mi,"
    "training.ray.head.sharedMemory=200Mi,training.ray.workers.sharedMemory=200Mi,"
    "training.ray.workers.resources.limits.cpu=1,training.ray.workers.replicas=2"
)
TOKEN = {"RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}


@pytest.fixture
def apart(place: Place) -> Iterator[Place]:
    """A place whose home is not under /tmp, of which each pod has one of its own."""
    with TemporaryDirectory(prefix="hearth", dir="/var/tmp") as folder:
        place.home = HomeSettings(home=Path(folder))
        add_base(place.home)
        yield place


def test_a_run_trains_on_the_pods_that_the_chart_renders(apart: Place, tmp_path: Path) -> None:
    place = apart
    chart = render(unpack(tmp_path / "helm"), (*VALUES["defaults"], "--set", SMALL))
    finetune = place.begin(place.dataset().id, SHORT, Resources(workers=2))
    with kuberay_cluster(chart, TOKEN) as cluster:
        cluster.start_head()
        for _ in range(chart.of("RayCluster")["ray"]["spec"]["workerGroupSpecs"][0]["replicas"]):
            cluster.start_worker()
        cluster.start_sidecar()
        place.ray = cluster
        variables = cluster.variables(chart.containers["training"])
        ours = {name: value for name, value in variables.items() if "S3" not in name}
        within = cluster.training.within([place.home.home])
        with place.worker(within=within, variables=ours):
            job = place.over(finetune)
        assert job.status is JobStatus.FINISHED, place.told(finetune) + cluster.logs()
        assert cluster.left_in_tmp() == []
        assert list(place.curve(finetune)) == list(range(1, 11))
        fetch_adapter(place.s3, finetune.adapter_id, tmp_path)  # raises if a hash is wrong
