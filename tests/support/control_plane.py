"""Gateway, management and dataset service on real servers, but no engine and no worker: what is begun waits."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_gateway.app import Gateway
from hearth_gateway.config import GatewaySettings
from hearth_gateway.server import server_options
from hearth_jobs.config import RedisSettings
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import build_services
from hearth_storage.config import HomeSettings, S3Settings
from minio import Minio
from pydantic import SecretStr
from redis import Redis
from uvicorn import Config

from tests.support.servers import free_ports, running


@contextmanager
def control_plane(
    home: HomeSettings, redis: Redis, redis_url: str, s3: Minio, s3_settings: S3Settings
) -> Iterator[str]:
    """The public address of the three, over a Redis and an S3 server that run already."""
    management, dataset, public = free_ports(3)
    services = build_services(
        ManagementSettings(embedding_model=""), home, RedisSettings(redis_url=SecretStr(redis_url)), s3_settings
    )
    settings = GatewaySettings(
        management_url=f"http://127.0.0.1:{management}", dataset_url=f"http://127.0.0.1:{dataset}"
    )
    with ExitStack() as stack:
        for app, port in ((management_app(services), management), (dataset_app(s3, redis, DatasetSettings()), dataset)):
            stack.enter_context(running(Config(app, port=port, log_config=None)))
        stack.enter_context(running(Config(Gateway(settings, redis), **(server_options(settings) | {"port": public}))))
        yield f"http://127.0.0.1:{public}"
