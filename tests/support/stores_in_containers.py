"""Redis and S3 in containers, of the images that docker-compose.yml names, by testcontainers: `pytest --containers`.

The image of SeaweedFS is Hearth's own: `docker compose --profile seaweedfs build seaweedfs` makes it.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from hearth_local.paths import CHECKOUT
from hearth_storage.config import S3Settings
from hearth_storage.objects import connect as connect_s3
from redis import Redis
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.support.servers import S3_KEYS, await_redis, await_s3

testcontainers_config.ryuk_disabled = True  # an image more to fetch; the blocks below end what they begin


def image_of(service: str) -> str:
    """The image of one of compose's services."""
    named = str(yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"][service]["image"])
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: os.environ.get(found[1], found[2]), named)


@contextmanager
def redis_container() -> Iterator[Redis]:
    """Redis; gives a client."""
    with DockerContainer(image_of("redis")).with_exposed_ports(6379) as box:
        client = Redis(host="127.0.0.1", port=int(box.get_exposed_port(6379)))
        await_redis(client)
        yield client
        client.close()


@contextmanager
def s3_container() -> Iterator[S3Settings]:
    """SeaweedFS that knows one pair of keys; gives the settings to reach it."""
    keys = {"HEARTH_S3_ACCESS_KEY": S3_KEYS["accessKey"], "HEARTH_S3_SECRET_KEY": S3_KEYS["secretKey"]}
    box = DockerContainer(image_of("seaweedfs")).with_exposed_ports(9000).with_envs(**keys)
    with box:
        settings = S3Settings(
            s3_endpoint=f"127.0.0.1:{box.get_exposed_port(9000)}",
            s3_access_key=S3_KEYS["accessKey"],  # type: ignore[arg-type]
            s3_secret_key=S3_KEYS["secretKey"],  # type: ignore[arg-type]
        )
        await_s3(connect_s3(settings))
        yield settings
