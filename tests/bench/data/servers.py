"""The real programs that are measured, each a process of its own on loopback."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hearth_storage.config import S3Settings

from tests.bench.services import service
from tests.support.servers import free_port, s3_server, valkey

S3_CORE, CORE = 0, 1


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
def platform(folder: Path, *, apart: bool) -> Iterator[Platform]:
    """A fresh one over an empty `folder`.

    `apart`: S3 has a processor of its own, as on a machine of its own, and everything else, this process too, another.
    """
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        if apart:
            os.sched_setaffinity(0, {S3_CORE})  # what is started inherits it
        s3 = stack.enter_context(s3_server(folder / "s3"))
        if apart:
            os.sched_setaffinity(0, {CORE})
        redis = stack.enter_context(valkey(folder / "valkey"))
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
        dataset_pid = stack.enter_context(service("hearth_dataset", dataset_port, env, folder))
        stack.enter_context(service("hearth_gateway", gateway_port, env, folder))
        yield Platform(s3, dataset_port, dataset_pid, gateway_port)
