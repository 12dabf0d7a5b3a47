"""What trains, without engines: the real programs on loopback, with one model in the store."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from hearth_client import Hearth
from hearth_contracts.base import now
from hearth_contracts.models import StoredModel
from hearth_local.paths import env_python
from hearth_storage.config import HomeSettings
from hearth_storage.model_store import record_model, snapshot_path
from redis import Redis
from rq import Worker
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.bench.services import service
from tests.support.servers import free_port, s3_server, valkey

MODEL_ID = "bench/model"
READY_SECONDS = 300


@dataclass(frozen=True)
class Platform:
    """A platform that runs."""

    client: Hearth
    worker: psutil.Process

    def trainer_stands_by(self) -> None:
        """Wait until the spare trainer has its libraries loaded: from then on it takes no processor time."""
        seconds = [0.0]

        def busy() -> bool:
            seconds.append(self._spare_seconds())
            return seconds[-1] < 1 or seconds[-1] > seconds[-2]

        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(READY_SECONDS), wait=wait_fixed(1))(busy)

    def _spare_seconds(self) -> float:
        for process in self.worker.children(recursive=True):
            if "--wait" in process.cmdline() and "hearth_trainer" in process.cmdline()[2:3]:
                times = process.cpu_times()
                return float(times.user + times.system)
        return 0.0


@contextmanager
def platform(folder: Path, model: Path, *, warm: bool) -> Iterator[Platform]:
    """A fresh one over `folder`, whose training worker keeps a trainer ready or starts one for each run."""
    home = HomeSettings(home=folder / "home")
    _store(home, model)
    with s3_server(folder / "s3") as s3, valkey(folder / "valkey") as redis:
        ports = {name: free_port() for name in ("dataset", "management", "gateway")}
        env = {
            **os.environ,
            "HEARTH_HOME": str(home.home),
            "HEARTH_REDIS_URL": f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0",
            "HEARTH_S3_ENDPOINT": s3.s3_endpoint,
            "HEARTH_S3_ACCESS_KEY": s3.s3_access_key.get_secret_value(),
            "HEARTH_S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "HEARTH_EMBEDDING_MODEL": "",
            "HEARTH_TRAINER_PYTHON": str(env_python("training")),
            "HEARTH_TRAINER_WARM": str(warm).lower(),
            **{f"HEARTH_{name.upper()}_PORT": str(port) for name, port in ports.items()},
            **{f"HEARTH_{name.upper()}_URL": f"http://127.0.0.1:{port}" for name, port in ports.items()},
        }
        with (
            service("hearth_dataset", ports["dataset"], env, folder),
            service("hearth_management", ports["management"], env, folder),
            service("hearth_gateway", ports["gateway"], env, folder),
            _worker(env, folder, redis) as worker,
            Hearth(f"http://127.0.0.1:{ports['gateway']}") as client,
        ):
            yield Platform(client, psutil.Process(worker))


def _store(home: HomeSettings, folder: Path) -> None:
    model = StoredModel(model_id=MODEL_ID, revision="main", size_bytes=1, license=None, created_at=now())
    shutil.copytree(folder, snapshot_path(home.models, model))
    record_model(home.models, model)


@contextmanager
def _worker(env: dict[str, str], folder: Path, redis: Redis) -> Iterator[int]:
    with (folder / "hearth_training.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "hearth_training"], env=env, stdout=log, stderr=log)
    try:
        until_it_is_there = Retrying(
            retry=retry_if_result(bool), stop=stop_after_delay(READY_SECONDS), wait=wait_fixed(0.1)
        )
        until_it_is_there(lambda: not Worker.all(connection=redis))
        yield process.pid
    finally:
        process.terminate()
        process.wait()
