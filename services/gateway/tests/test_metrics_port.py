"""The port for Prometheus: the metrics, and nothing else."""

from collections.abc import Iterator

import httpx
import pytest
from hearth_gateway.metrics_port import serve_metrics

from tests.support.servers import free_port


@pytest.fixture
def url() -> Iterator[str]:
    port = free_port()
    server = serve_metrics("127.0.0.1", port)
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def test_it_shows_the_metrics_without_a_key_and_nothing_else(url: str) -> None:
    reply = httpx.get(f"{url}/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    assert "hearth_gateway_requests_in_flight" in reply.text
    for path in ("/", "/api/v1/models/", "/metrics/../api/v1/keys/"):
        assert httpx.get(f"{url}{path}").status_code == 404
    assert httpx.post(f"{url}/metrics").status_code == 501
