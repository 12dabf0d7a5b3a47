"""One trace from a client through gateway and management to an attempt at a job, each a process as operators run it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from hearth_storage.config import S3Settings
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.collector import Collector, Sent, collecting
from tests.support.servers import free_ports

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "said-to-nobody"


@pytest.fixture
def traced(tmp_path: Path, redis_url: str, s3_settings: S3Settings) -> Iterator[tuple[str, Collector]]:
    """Gateway, management and download worker, and what they send; a model to import lies ready."""
    folder = tmp_path / "imports" / "a-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    (folder / "model.safetensors").write_bytes(b"weights")
    management, gateway = free_ports(2)
    with ExitStack() as stack:
        collector = stack.enter_context(collecting(Collector()))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OTEL_"))},
            "HEARTH_HOME": str(tmp_path),
            "HEARTH_REDIS_URL": redis_url,
            "HEARTH_S3_ENDPOINT": s3_settings.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": s3_settings.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": s3_settings.s3_secret_key.get_secret_value(),
            "HEARTH_EMBEDDING_MODEL": "",
            "HEARTH_MANAGEMENT_PORT": str(management),
            "HEARTH_MANAGEMENT_URL": f"http://127.0.0.1:{management}",
            "HEARTH_GATEWAY_PORT": str(gateway),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        log = stack.enter_context((tmp_path / "log").open("wb"))
        for module in ("hearth_gateway", "hearth_management", "hearth_management.downloads"):
            process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=log, stderr=log)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        url = f"http://127.0.0.1:{gateway}"
        for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.1)):
            with attempt:
                assert httpx.get(f"{url}/health/ready").status_code == 200
                assert httpx.get(f"http://127.0.0.1:{management}/health/ready").status_code == 200
        yield url, collector


def test_a_job_is_part_of_the_trace_of_the_client_who_asked_for_it(
    traced: tuple[str, Collector], tmp_path: Path
) -> None:
    url, collector = traced
    reply = httpx.post(
        f"{url}/api/v1/models/import/?note={SECRET}",
        json={"model_id": "acme/tiny", "folder": "a-model"},
        headers={"traceparent": f"00-{TRACE}-{CLIENT}-01", "x-request-id": "r-1", "authorization": f"Bearer {SECRET}"},
    )
    assert reply.status_code == 200, reply.text

    def has_come(spans: list[Sent]) -> bool:
        return {span.service for span in spans if span.trace_id == TRACE} == {
            "hearth-gateway", "hearth-management", "hearth-downloads",
        }  # fmt: skip

    spans = {span.service: span for span in collector.until(has_come, 60) if span.trace_id == TRACE}
    gateway, management, job = (spans[f"hearth-{name}"] for name in ("gateway", "management", "downloads"))
    assert [span.parent_id for span in (gateway, management, job)] == [CLIENT, gateway.span_id, management.span_id]
    assert (gateway.name, management.name) == ("POST /api/v1/models", "POST /v1/models/import")
    assert (job.name, job.kind, job.is_error) == ("job import", "CONSUMER", False)
    assert job.attributes == {
        "hearth.job.id": reply.json()["id"],
        "hearth.job.kind": "import",
        "hearth.job.attempt": 1,
        "hearth.job.status": "FINISHED",
        "hearth.request_id": "r-1",
    }
    assert {span.attributes["hearth.request_id"] for span in spans.values()} == {"r-1"}
    assert not any(SECRET.encode() in body for body in collector.bodies)
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if reply.json()["id"] in line]
    assert any(f'"trace_id": "{TRACE}"' in line for line in lines)  # of the worker's log
