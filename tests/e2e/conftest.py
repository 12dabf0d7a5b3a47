"""Management and a gateway in this process, for tests that start and kill inference nodes of their own."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.server import server_options
from hearth_jobs.config import RedisSettings
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.reconciler import Reconciler
from hearth_management.services import Services, build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import ARTIFACTS, ensure_bucket
from hearth_storage.objects import connect as connect_s3
from pydantic import SecretStr

from services.inference.tests.conftest import Place, wait_for
from tests.support.servers import free_port, running, valkey


@dataclass
class Stage:
    """Management and the gateway, with room for nodes."""

    services: Services
    client: TestClient
    url: str
    nodes: list[Place]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/v1/deploy/status").json()
        return found

    def ready(self, count: int, seconds: float = 240) -> dict[str, Any]:
        """The status once so many replicas answer."""
        return wait_for(lambda: (now := self.status())["replicas"]["ready"] == count and now, seconds)


@pytest.fixture
def stage(tmp_path: Path, s3_settings: S3Settings) -> Iterator[Stage]:
    ensure_bucket(connect_s3(s3_settings), ARTIFACTS)
    port = free_port()
    with ExitStack() as stack:
        redis = stack.enter_context(valkey(tmp_path / "valkey"))
        nodes = [Place(redis, s3_settings, HomeSettings(home=tmp_path / name)) for name in ("one", "two")]
        redis_url = f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"
        settings = ManagementSettings(embedding_model="", fit_check=False, scale_up_seconds=2, scale_down_seconds=5)
        services = build_services(settings, nodes[0].home, RedisSettings(redis_url=SecretStr(redis_url)), s3_settings)
        gateway = Gateway(GatewaySettings(), redis)
        stack.enter_context(running(uvicorn.Config(gateway, **(server_options(gateway.settings) | {"port": port}))))
        reconciler = Reconciler(services, patience=0)
        reconciler.start()
        stack.callback(reconciler.stop)
        yield Stage(services, TestClient(management_app(services)), f"http://127.0.0.1:{port}", nodes)
