"""What the routes and the reconciler work with, built once from the settings."""

from dataclasses import dataclass

from hearth_jobs.config import RedisSettings
from hearth_jobs.connection import connect as connect_redis
from hearth_jobs.deployments import DeploymentStore
from hearth_jobs.finetunes import FinetuneStore
from hearth_jobs.idempotency import Idempotency
from hearth_jobs.nodes import NodeRegistry
from hearth_jobs.replicas import ReplicaStore
from hearth_jobs.store import JobStore
from hearth_storage.adapters import Adapters
from hearth_storage.config import HomeSettings, S3Settings
from hearth_storage.objects import connect as connect_s3
from minio import Minio
from redis import Redis

from hearth_management.config import ManagementSettings


@dataclass(frozen=True)
class Services:
    """Stores and settings, shared by every request; all of them are safe to use from several threads."""

    settings: ManagementSettings
    home: HomeSettings
    redis: Redis
    s3: Minio
    adapters: Adapters
    jobs: JobStore
    deployments: DeploymentStore
    finetunes: FinetuneStore
    nodes: NodeRegistry
    replicas: ReplicaStore
    idempotency: Idempotency


def build_services(
    settings: ManagementSettings, home: HomeSettings, redis_settings: RedisSettings, s3_settings: S3Settings
) -> Services:
    """Everything, lazily connected."""
    redis = connect_redis(redis_settings)
    jobs = JobStore(redis)
    s3 = connect_s3(s3_settings)
    return Services(
        settings=settings,
        home=home,
        redis=redis,
        s3=s3,
        adapters=Adapters(s3),
        jobs=jobs,
        deployments=DeploymentStore(redis, jobs),
        finetunes=FinetuneStore(redis),
        nodes=NodeRegistry(redis),
        replicas=ReplicaStore(redis),
        idempotency=Idempotency(redis, jobs),
    )
