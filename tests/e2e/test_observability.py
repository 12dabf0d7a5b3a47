"""A real Prometheus on the real services: every query of every panel and alert finds something, labelled as it says."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.conftest import Running
from tests.support.containers import Compose
from tests.support.dashboards import BUILD
from tests.support.pictures import draw
from tests.support.prometheus import CONFIG, prometheus, query

pytestmark = pytest.mark.timeout(600)

SECONDS = 120
QUERIES = [
    (f"{dashboard.title}: {panel.title}", expression, legend)
    for dashboard in BUILD.DASHBOARDS
    for panel in dashboard.panels
    for legend, expression in panel.queries.items()
]
RULES = [
    (rule["alert"], re.sub(r" (>|==) [0-9.]+$", "", rule["expr"].strip()), "".join(rule["annotations"].values()))
    for group in yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DOCUMENTED = re.compile(r"^\| `(hearth_\w+)` ", re.MULTILINE)


PORTS = {"gateway": 8083, "management": 8081, "dataset": 8082}  # as compose has them


def address(platform: Running, service: str) -> str:
    if isinstance(platform.platform, Compose):
        return f"{platform.platform.address(service)}:{PORTS[service]}"
    config = platform.platform.config
    port = config.extra_env["HEARTH_METRICS_PORT"] if service == "gateway" else config.ports[service]
    return f"127.0.0.1:{port}"


@contextmanager
def watching(platform: Running, folder: Path) -> Iterator[httpx.Client]:
    """Prometheus: compose's own, where the platform is in containers."""
    if isinstance(platform.platform, Compose):
        with platform.platform.prometheus() as client:
            yield client
    else:
        addresses = {f"{service}:{port}": address(platform, service) for service, port in PORTS.items()}
        with prometheus(folder, addresses) as client:
            yield client


def work(platform: Running, adapter_id: str) -> None:
    """A little of everything that is measured."""
    client = openai.OpenAI(base_url=f"{platform.url}/v1", api_key="unused", max_retries=0)
    for _ in range(3):
        list(client.completions.create(model=adapter_id, prompt="Hello", max_tokens=8, stream=True))
        client.embeddings.create(model="Compressa-Embedding", input="Hello")
    for text in ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', "{"):
        platform.http.post("/api/v1/datasets/upload/", files={"file": ("some.jsonl", text.encode())})


@pytest.fixture(scope="module")
def training(platform: Running, model_id: str, dataset_id: str) -> Iterator[dict[str, object]]:
    """One that goes on for as long as somebody looks at it."""
    body = {
        "name": "Watched",
        "model_id": model_id,
        "dataset_id": dataset_id,
        "hyperparameters": {"max_steps": 100_000},
    }
    reply = platform.http.post("/api/v1/finetune/", json=body)
    assert reply.status_code == 200, reply.text
    job = reply.json()
    yield job
    platform.http.post(f"/api/v1/jobs/{job['id']}/interrupt/")
    assert platform.await_job(job)["status"] == "KILLED"


@pytest.fixture(scope="module")
def server(
    platform: Running, deployed: object, training: object, adapter_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Prometheus, once it has seen the platform at work."""
    platform.await_embedding()
    work(platform, adapter_id)  # so that each series is there before
    with watching(platform, tmp_path_factory.mktemp("prometheus")) as client:
        for attempt in Retrying(stop=stop_after_delay(SECONDS), wait=wait_fixed(1), reraise=True):
            with attempt:
                work(platform, adapter_id)
                waiting = [name for name, expression, _ in [*QUERIES, *RULES] if not query(client, expression)]
                assert not waiting
        yield client


def test_every_service_and_engine_is_asked_and_answers(server: httpx.Client) -> None:
    found = {(each["metric"]["job"], each["value"][1]) for each in query(server, "up")}
    assert found == {(job, "1") for job in (*PORTS, "engines")}
    loaded = [rule for group in server.get("/api/v1/rules").json()["data"]["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {name for name, _, _ in RULES}
    assert [rule for rule in loaded if rule["health"] != "ok"] == []


def test_every_series_of_a_panel_has_the_labels_that_its_legend_shows(server: httpx.Client) -> None:
    for name, expression, legend in QUERIES:
        for series in query(server, expression):
            missing = set(re.findall(r"{{(\w+)}}", legend)) - series["metric"].keys()
            assert not missing, f"{name}: {expression} has no {missing}"


def test_every_alert_has_the_labels_that_its_words_name(server: httpx.Client) -> None:
    for name, expression, words in RULES:
        for series in query(server, expression):
            missing = set(re.findall(r"\$labels\.(\w+)", words)) - series["metric"].keys()
            assert not missing, f"{name} has no {missing}"


def test_no_alert_of_a_sound_platform_fires(server: httpx.Client) -> None:
    alerts = server.get("/api/v1/alerts").json()["data"]["alerts"]
    assert [alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"] == []


def test_every_panel_can_be_drawn_from_its_queries(server: httpx.Client, tmp_path: Path) -> None:
    folder = Path(os.environ.get("HEARTH_PICTURES") or tmp_path)  # docs/dashboards, when its pictures are made anew
    for dashboard in BUILD.DASHBOARDS:
        assert draw(server, dashboard, folder / f"{dashboard.uid}.png") == []


def test_the_table_of_metrics_names_all_there_are_and_no_other(platform: Running, server: httpx.Client) -> None:
    found = set()
    for service in ("gateway", "management", "dataset"):
        page = httpx.get(f"http://{address(platform, service)}/metrics", trust_env=False, timeout=30).text
        names = {f"{each.name}_total" if each.type == "counter" else each.name
                 for each in text_string_to_metric_families(page)}  # fmt: skip
        found |= {name for name in names if name.startswith("hearth_") and not name.endswith("_created")}
    documented = DOCUMENTED.findall((CONFIG.parents[1] / "docs" / "metrics.md").read_text())
    assert sorted(documented) == sorted(found)
