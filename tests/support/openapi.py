"""The OpenAPI document of all services, merged as the gateway merges it. Nothing is connected to for it."""

from functools import cache
from typing import Any

from hearth_dataset.app import dataset_app
from hearth_dataset.config import DatasetSettings
from hearth_gateway.docs import merge
from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_management.app import management_app
from hearth_management.config import ManagementSettings
from hearth_management.services import build_services
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect as connect_s3


@cache
def document() -> dict[str, Any]:
    """All of it."""
    redis, s3 = RedisSettings(), S3Settings()
    management = management_app(build_services(ManagementSettings(), HomeSettings(), redis, s3))
    dataset = dataset_app(connect_s3(s3), connect_redis(redis), DatasetSettings())
    return merge([management.openapi(), dataset.openapi()], [])
