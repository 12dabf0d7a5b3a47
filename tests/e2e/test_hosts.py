"""Several hosts: the control plane on one, a real engine on each of two others, and one of these loses its network."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hearth_access.key_store import KeyStore
from hearth_contracts.access import KeyRequest, Role
from hearth_contracts.jobs import JobStatus
from hearth_jobs import owners
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_storage.model_store import find_model
from hearth_storage.objects import ARTIFACTS, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from redis import Redis
from tenacity import Retrying, stop_after_delay, wait_fixed

from services.inference.tests.conftest import ENVS, SUPPORT, wait_for
from tests.support.hosts import Host, hosts, needs_hosts
from tests.support.load import Load
from tests.support.servers import s3_server, valkey

BASE = "tiny/llama"
PASSWORD = "for-redis"
ENGINE = "VLLM::EngineCore"
LONGEST_SECONDS = 30  # of a request while a host is lost: 15 until its silence is noticed, and a slow answer
pytestmark = [pytest.mark.timeout(600), needs_hosts]


@dataclass
class Site:
    """A host with everything but engines, two that have nothing but a node, and an admin on the first."""

    control: Host
    nodes: list[Host]
    redis: Redis
    key: str
    http: httpx.Client

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/api/v1/deploy/status/").json()
        return found

    def ready(self, count: int, seconds: float) -> dict[str, Any]:
        return wait_for(lambda: (now := self.status())["replicas"]["ready"] == count and now, seconds)

    def answers(self) -> dict[str, float]:
        """How many requests each engine has answered, by its address."""
        found = {}
        for url in [node.url for node in NodeRegistry(self.redis).live()]:
            lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
            found[url] = sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total"))
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        control, *nodes = stack.enter_context(hosts("control", "left", "right"))
        stack.enter_context(control.inside())  # where the test asks from
        redis = stack.enter_context(valkey(tmp_path / "valkey", 6379, control.ip, PASSWORD))
        s3 = stack.enter_context(s3_server(tmp_path / "s3", 8333, control.ip))
        ensure_bucket(connect_s3(s3), ARTIFACTS)
        key = KeyStore(redis).create(KeyRequest(name="boss", role=Role.ADMIN)).secret
        settings = {
            "HEARTH_REDIS_URL": f"redis://:{PASSWORD}@{control.ip}:6379/0",
            "HEARTH_S3_ENDPOINT": s3.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": s3.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "HEARTH_GATEWAY_HOST": control.ip,
            "HEARTH_SHARE_MODELS": "true",  # the nodes have no way to a hub
            "HEARTH_EMBEDDING_MODEL": "",
            "HEARTH_FIT_CHECK": "false",
        }
        for program in ("management", "management.downloads", "dataset", "gateway"):
            log = tmp_path / f"{program}.log"
            control.start(sys.executable, "-m", f"hearth_{program}", log=log, **settings)
        for node in nodes:
            own = {"HEARTH_ENGINE_PYTHON": str(ENVS / "vllm/bin/python"), "HEARTH_ENGINE_HOST": node.ip}
            node.start(sys.executable, "-m", "hearth_inference", log=tmp_path / f"{node.name}.log", **settings, **own)
        headers = {"authorization": f"Bearer {key}"}
        url = f"http://{control.ip}:8080"
        http = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False))
        for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.2)):
            with attempt:
                http.get("/health/ready").raise_for_status()
        yield Site(control, nodes, redis, key, http)


def import_model(site: Site, log: Path) -> None:
    script, folder = SUPPORT / "tiny_llama.py", site.control.home / "imports" / "tiny"
    assert site.control.start(ENVS / "training/bin/python", script, folder, log=log).wait() == 0
    asked = {"model_id": BASE, "folder": "tiny"}
    job = wait_for(lambda: (reply := site.http.post("/api/v1/models/import/", json=asked)).is_success and reply, 60)
    jobs, job_id = JobStore(site.redis), job.json()["id"]
    wait_for(lambda: jobs.get(job_id).status.is_over, 60)
    assert jobs.get(job_id).status is JobStatus.FINISHED


def test_a_host_whose_cable_is_pulled_costs_no_request_without_a_byte_and_serves_again_once_it_is_back(
    site: Site, tmp_path: Path
) -> None:
    import_model(site, tmp_path / "model.log")
    engine = {"dtype": "float32", "max_model_len": 256, "max_num_seqs": 8}
    asked = {"model_id": BASE, "engine": engine, "replicas": 2}
    job = site.http.put("/api/v1/deployments/default", json=asked).json()
    assert [each["index"] for each in site.ready(2, 240)["replicas"]["nodes"]] == [0, 1]
    stores = [find_model(host.seen(host.home / "models"), BASE) for host in (site.control, *site.nodes)]
    assert stores[0] is not None and stores == [stores[0]] * 3
    assert {httpx.URL(url).host for url in site.answers()} == {host.ip for host in site.nodes}

    jobs = JobStore(site.redis)
    owner = owners.parse(next(held.owner for held in jobs.running() if held.job.id == job["id"]))
    assert owner is not None
    lost = next(host for host in site.nodes if host.name == owner.host)  # the carrier: the harder one
    with Load(str(site.http.base_url), 8, site.key) as load:
        wait_for(lambda: len(load.outcomes) >= 24, 60)
        lost.plug(into=False)
        site.ready(1, 20)
        told = "1 of 2 replicas answer; without an inference node: 1"
        now = wait_for(
            lambda: (found := site.status())["job"]["attempt"] == 2 and found["detail"] == told and found, 60
        )
        assert (now["state"], now["job"]["status"], now["job"]["id"]) == ("READY", "RUNNING", job["id"])
    # The clients ended while it was away: none waits for an answer of that host.
    assert lost.running(ENGINE) != [], "its processes live on"
    lost.plug(into=True)
    wait_for(lambda: len(ReplicaStore(site.redis).held()) == 2, 60)
    site.ready(2, 120)
    before = site.answers()
    with Load(str(site.http.base_url), 4, site.key):
        wait_for(lambda: all(count >= before[url] + 3 for url, count in site.answers().items()), 60)
    unanswered = [each for each in load.outcomes if not each.whole]
    assert [each for each in unanswered if not each.events] == []
    assert all("broke off" in each.words for each in unanswered), "those in mid-stream were told"
    assert len(unanswered) <= 8
    assert max(each.seconds for each in load.outcomes) < LONGEST_SECONDS
    assert [len(host.running(ENGINE)) for host in site.nodes] == [1, 1]
    site.http.delete("/api/v1/deployments/default")
    wait_for(lambda: jobs.get(job["id"]).status is JobStatus.KILLED, 60)
    assert [host.running(ENGINE) for host in site.nodes] == [[], []]
