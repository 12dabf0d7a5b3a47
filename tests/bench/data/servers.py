"""The real programs that are measured, each a process of its own on loopback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hearth_storage.config import S3Settings

from tests.bench.services import service
from tests.support.servers import free_port, s3_server, valkey


@dataclass(frozen=True)
class Platform:
    """What the measurements need to know of a running S3 server, dataset service and gateway."""

    s3: S3Settings
    dataset_port: int
    dataset_pid: int
    gateway_port: int

    def dataset_peak_mib(self) -> float:
        """The most memory that the dataset service ever held."""
        status = Path(f"/proc/{self.dataset_pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


@contextmanager
def platform(folder: Path) -> Iterator[Platform]:
    """A fresh one over an empty `folder`."""
    with s3_server(folder / "s3") as s3, valkey(folder / "valkey") as redis:
        dataset_port, gateway_port = free_port(), free_port()
        env = {
            **os.environ,
            "HEARTH_S3_ENDPOINT": s3.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": s3.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "HEARTH_REDIS_URL": f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0",
            "HEARTH_DATASET_PORT": str(dataset_port),
            "HEARTH_DATASET_URL": f"http://127.0.0.1:{dataset_port}",
            "HEARTH_GATEWAY_PORT": str(gateway_port),
            "HEARTH_HOME": str(folder / "home"),
        }
        with service("hearth_dataset", dataset_port, env, folder) as dataset_pid:
            with service("hearth_gateway", gateway_port, env, folder):
                yield Platform(s3, dataset_port, dataset_pid, gateway_port)
