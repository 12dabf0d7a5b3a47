"""The control plane's door at exact moments: bodies in both directions as they come, and what a client may send."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.docs import merge
from hearth_jobs.config import RedisSettings
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect as connect_s3
from redis import Redis

from services.gateway.tests.conftest import serving
from tests.support.servers import free_port, running
from tests.support.wire import PATIENCE_SECONDS, Wire, wire


@pytest.fixture
def service() -> Iterator[Wire]:
    """Management and dataset service, played by the test."""
    with wire() as far:
        yield far


@pytest.fixture
def port(redis: Redis, service: Wire) -> Iterator[int]:
    """Where a gateway listens whose services are played by the test."""
    port = free_port()
    gateway = Gateway(GatewaySettings(management_url=service.url, dataset_url=service.url), redis)
    with running(serving(gateway, port)):
        yield port


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    """A client that can send a request without waiting for its answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        yield connection


def test_an_upload_reaches_the_service_while_the_client_still_sends(port: int, service: Wire) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.sendall(b"POST /api/v1/datasets/upload/?description=a%20b HTTP/1.1\r\nHost: localhost\r\n")
        client.sendall(b"Content-Length: 8\r\n\r\nhalf")
        exchange = service.take()
        assert exchange.request_line == "POST /v1/datasets/upload?description=a%20b HTTP/1.1"
        assert exchange.read(4) == b"half"
        client.sendall(b"rest")
        assert exchange.read(4) == b"rest"
        exchange.reply(b"{}")
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_client_that_leaves_in_mid_upload_ends_it_for_the_service(port: int, service: Wire) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.sendall(b"POST /api/v1/datasets/upload/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nhalf")
        exchange = service.take()
        assert exchange.read(4) == b"half"
    assert exchange.sees_the_end()


def test_a_download_reaches_the_client_while_the_service_still_sends(
    client: http.client.HTTPConnection, service: Wire
) -> None:
    client.request("GET", "/api/v1/datasets/1/")
    exchange = service.take()
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\nhalf")
    with client.getresponse() as reply:
        assert reply.read1(4) == b"half"
        exchange.send(b"rest")
        assert reply.read() == b"rest"
        assert len(reply.headers.get_all("date") or []) == 1


def test_a_client_that_leaves_in_mid_download_ends_it_for_the_service(
    client: http.client.HTTPConnection, service: Wire
) -> None:
    client.request("GET", "/api/v1/datasets/1/")
    exchange = service.take()
    exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
    reply = client.getresponse()
    assert reply.read1(4) == b"half"
    reply.close()
    client.close()
    assert exchange.sees_the_end()


def test_a_service_that_dies_in_mid_download_does_not_look_whole(
    client: http.client.HTTPConnection, service: Wire
) -> None:
    client.request("GET", "/api/v1/datasets/1/")
    exchange = service.take()
    exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    with client.getresponse() as reply:
        assert reply.read(4) == b"half"
        exchange.die()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            reply.read()


def test_a_service_that_dies_before_it_answers_is_a_503(client: http.client.HTTPConnection, service: Wire) -> None:
    client.request("GET", "/api/v1/jobs/")
    service.take().die()
    with client.getresponse() as reply:
        assert (reply.status, reply.headers["retry-after"]) == (503, "2")
        assert json.loads(reply.read())["status"] == 503


@pytest.mark.parametrize(
    ("path", "inner"),
    [
        ("/api/v1/datasets/a%3Fb/", "/v1/datasets/a%3Fb"),
        ("/api/v1/datasets/a%23b", "/v1/datasets/a%23b"),
        ("/api/v1/datasets/a%0Ab", "/v1/datasets/a%0Ab"),
        ("/api/v1/datasets/a%00b", "/v1/datasets/a%00b"),
        ("/api/v1/datasets/a%25b", "/v1/datasets/a%25b"),
        ("/api/v1/datasets/a%252e%252eb", "/v1/datasets/a%252e%252eb"),
        ("/api/v1/datasets/%D0%96", "/v1/datasets/%D0%96"),
        ("/api/v1/datasets/1?a=%3F&b=%23&b=", "/v1/datasets/1?a=%3F&b=%23&b="),
    ],
)
def test_a_path_means_the_same_to_the_service_as_it_did_to_the_gateway(
    client: http.client.HTTPConnection, service: Wire, path: str, inner: str
) -> None:
    client.request("DELETE", path)
    exchange = service.take()
    exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert exchange.request_line == f"DELETE {inner} HTTP/1.1"
    with client.getresponse() as reply:
        assert (reply.status, reply.read()) == (204, b"")


def test_headers_of_any_bytes_pass_in_both_directions(client: http.client.HTTPConnection, service: Wire) -> None:
    client.putrequest("GET", "/api/v1/datasets/1/", skip_accept_encoding=True)
    client.putheader("user-agent", "Ж".encode())
    client.putheader("cookie", b"a=\xe9")
    client.endheaders()
    exchange = service.take()
    assert exchange.headers["user-agent"].encode("latin-1") == "Ж".encode()
    assert exchange.headers["cookie"] == "a=\xe9"
    assert "accept-encoding" not in exchange.headers  # or the service might compress for a client that cannot read it
    exchange.send(
        "HTTP/1.1 200 OK\r\nX-Name: Ж\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n".encode()
    )
    with client.getresponse() as reply:
        assert reply.headers["x-name"].encode("latin-1") == "Ж".encode()
        assert reply.headers.get_all("set-cookie") == ["a=1", "b=2"]


def test_a_services_redirect_passes_and_is_not_followed(client: http.client.HTTPConnection, service: Wire) -> None:
    client.request("GET", "/api/v1/jobs/")
    service.take().reply(b"", "location: http://elsewhere.invalid/", status="307 Temporary Redirect")
    with client.getresponse() as reply:
        assert (reply.status, reply.headers["location"]) == (307, "http://elsewhere.invalid/")


def references(node: Any) -> Iterator[str]:
    """Every $ref below a node of a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_of_the_real_services_documents_leads_somewhere(tmp_path: Path) -> None:
    services = build_services(ManagementSettings(), HomeSettings(home=tmp_path), RedisSettings(), S3Settings())
    dataset = dataset_app(connect_s3(S3Settings()), services.redis, DatasetSettings())
    document = merge([management_app(services).openapi(), dataset.openapi()], [])
    found = set(references(document))
    assert found
    for reference in found:
        kind, name = re.fullmatch(r"#/components/(\w+)/(\w+)", reference).groups()  # type: ignore[union-attr]
        assert name in document["components"][kind], reference
    for path in ("/api/v1/deploy/", "/api/v1/datasets/upload/", "/api/v1/models/", "/api/v1/chat/completions/"):
        assert path in document["paths"]
    named = [
        item["operationId"] for path in document["paths"].values() for item in path.values() if "operationId" in item
    ]
    assert len(named) == len(set(named))
