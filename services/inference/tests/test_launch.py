"""Where an engine's files lie. The engine is a stand-in: it only has to start."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hearth_contracts.deploy import DeploymentSpec, Engine
from hearth_contracts.names import new_id
from hearth_inference.config import InferenceSettings
from hearth_inference.engines.vllm import VllmDriver
from hearth_inference.launch import launch
from hearth_inference.process import EngineProcess
from hearth_storage.config import HomeSettings

SPEC = DeploymentSpec(
    name="default", engine=Engine.VLLM, model_id="a/b", served_name="LLM", job_id=new_id(), generation=1
)


class Sleeper(VllmDriver):
    def command(self, spec: DeploymentSpec, model: Path, port: int) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]


@contextmanager
def launched(home: Path, host: str, beside: EngineProcess | None = None) -> Iterator[EngineProcess]:
    driver = Sleeper(InferenceSettings(engine_python=Path(sys.executable)))
    place = HomeSettings(home=home)
    engine = launch(driver, SPEC, home, host=host, home=place, name="default", beside=beside)
    try:
        yield engine
    finally:
        engine.stop()


def test_the_engine_beside_another_has_a_log_of_its_own(tmp_path: Path) -> None:
    with launched(tmp_path, "127.0.0.1") as first, launched(tmp_path, "127.0.0.1", first) as second:
        assert (first.log.name, second.log.name) == ("engine-default.log", "engine-default-beside.log")


def test_nodes_that_share_a_folder_for_logs_have_each_a_file_of_its_own(tmp_path: Path) -> None:
    hosts = ("127.0.0.2", "127.0.0.3")  # addresses that every Linux has, as if on a network
    with launched(tmp_path, hosts[0]) as first, launched(tmp_path, hosts[1]) as second:
        assert [first.log.name, second.log.name] == [f"engine-default-{host}.log" for host in hosts]
