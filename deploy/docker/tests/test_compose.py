"""What `make compose-up` does before compose begins. The engine is a stand-in: CI has none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.modules import CHECKOUT, load

FOREIGN = {"grafana/grafana", "jaegertracing/jaeger", "minio/minio", "prom/prometheus", "redis"}
SCRIPT = CHECKOUT / "deploy" / "docker" / "compose.py"
ENGINE = """#!{python}
import json, sys
words = sys.argv[1:]
state = json.load(open({state!r}))
match words:
    case ["info"]:
        sys.exit(0 if state["answers"] else 1)
    case ["compose", "config"]:
        print(state["config"])
    case ["image", "inspect", image]:
        sys.exit(0 if image in state["here"] else 1)
    case ["pull", image]:
        print("pulling", image)
        sys.exit(0 if image in state["registry"] else 1)
    case ["compose", "up", *_]:
        print("composed")
"""


def config() -> str:
    """docker-compose.yml in the form in which compose says what it has read."""
    read = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    dumper = type("Whole", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    return yaml.dump(read, Dumper=dumper)


def foreign(*profiles: str) -> set[str]:
    found = load("deploy/docker/compose.py").images(config(), list(profiles))
    return {image.partition(":")[0] for image in found} & FOREIGN


def test_a_registry_is_needed_for_redis_and_for_what_profiles_ask_for() -> None:
    assert foreign("cpu", "seaweedfs") == {"redis"}
    assert foreign("gpu", "minio") == {"redis", "minio/minio"}
    assert foreign("cpu", "seaweedfs", "monitoring", "jaeger") == FOREIGN - {"minio/minio"}


@pytest.mark.parametrize(
    ("state", "code", "says"),
    [
        ({"answers": False}, 1, "no Docker Engine answers"),
        ({"here": ["redis:7"]}, 1, "not here, and not to be pulled: grafana/grafana:12.2.0, prom/prometheus:v3.5.0"),
        ({"registry": ["redis:7", "grafana/grafana:12.2.0", "prom/prometheus:v3.5.0"]}, 0, "composed"),
    ],
)
def test_what_cannot_be_pulled_is_told_before_anything_is_built(
    tmp_path: Path, state: dict[str, object], code: int, says: str
) -> None:
    known = tmp_path / "state.json"
    known.write_text(json.dumps({"answers": True, "here": [], "registry": [], "config": config(), **state}))
    engine = tmp_path / "docker"
    engine.write_text(ENGINE.format(python=sys.executable, state=str(known)))
    engine.chmod(0o755)
    env = {**os.environ, "PATH": str(tmp_path), "COMPOSE_PROFILES": "cpu,seaweedfs,monitoring"}
    done = subprocess.run([sys.executable, SCRIPT, "up", "-d"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert says in (done.stderr if code else done.stdout)


def test_profiles_come_from_the_environment_or_else_from_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    compose, dotenv = load("deploy/docker/compose.py"), "A=b\nCOMPOSE_PROFILES=gpu,minio\n"
    monkeypatch.delenv("COMPOSE_PROFILES", raising=False)
    assert compose.profiles(dotenv) == ["gpu", "minio"]
    monkeypatch.setenv("COMPOSE_PROFILES", "cpu")
    assert compose.profiles(dotenv) == ["cpu"]
