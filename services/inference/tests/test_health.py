"""An engine that hangs is found out, one that is merely busy is left alone. The engine is a stand-in: a real one does
not hang on request in every place where it might."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from hearth_contracts.deploy import DeploymentSpec, Engine, EngineLoad
from hearth_contracts.names import new_id
from hearth_inference import health
from hearth_inference.config import InferenceSettings
from hearth_inference.engines.vllm import VllmDriver
from hearth_inference.health import Health
from hearth_inference.plan import Phase

from tests.support.servers import free_port

STAND_IN = """
    import sys, threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    hangs, busy = threading.Event(), threading.Event()
    class Handler(BaseHTTPRequestHandler):
        done = 0
        def reply(self, body=b"{}"):
            self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
            self.wfile.write(body)
        def do_GET(self):
            Handler.done += busy.is_set()
            self.reply(
                b'vllm:generation_tokens_total{engine="0"} %d\\nvllm:num_requests_running{engine="0"} %d\\n'
                b'vllm:num_requests_waiting{engine="0"} 3' % (Handler.done, busy.is_set())
            )
        def do_POST(self):
            name = self.path.strip("/")
            if name in ("hangs", "busy"):
                globals()[name].set()
            elif hangs.is_set():
                threading.Event().wait()
            self.reply()
        def log_message(self, *_):
            pass
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SPEC = DeploymentSpec(
    name="default", engine=Engine.VLLM, model_id="a/b", served_name="LLM", job_id=new_id(), generation=1
)


@dataclass
class Place:
    """The stand-in and what is found of it."""

    process: "subprocess.Popen[bytes]"
    url: str
    health: Health = field(init=False)

    def tell(self, what: str) -> None:
        httpx.post(f"{self.url}/{what}", timeout=5)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """It has answered and serves."""
    for name, seconds in (("LOOK", 0.05), ("PROBE", 0.1), ("SILENT", 1.0), ("HUNG", 3.0)):
        monkeypatch.setattr(health, f"{name}_SECONDS", seconds)
    port = free_port()
    command = [sys.executable, "-c", textwrap.dedent(STAND_IN), str(port)]
    with subprocess.Popen(command) as process:
        place = Place(process, f"http://127.0.0.1:{port}")
        driver = VllmDriver(InferenceSettings(engine_python=Path("/envs/x/bin/python")))
        place.health = Health(process, driver, place.url, SPEC)
        until(lambda: place.health.phase is Phase.ANSWERS)
        place.health.serves()
        yield place
        process.kill()
        place.health.stop()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_frozen_engine_does_not_answer_and_then_is_ended(place: Place) -> None:
    place.process.send_signal(signal.SIGSTOP)
    until(lambda: place.health.phase is Phase.STARTING)
    until(lambda: place.health.phase is Phase.DEAD)
    assert "did not answer for" in place.health.fault
    assert place.process.wait(10) == -signal.SIGKILL


def test_an_engine_that_wakes_up_in_time_answers_again(place: Place) -> None:
    place.process.send_signal(signal.SIGSTOP)
    until(lambda: place.health.phase is Phase.STARTING)
    place.process.send_signal(signal.SIGCONT)
    until(lambda: place.health.phase is Phase.ANSWERS)
    assert place.health.fault == ""


def test_an_engine_whose_core_hangs_is_found_out_though_its_health_check_is_good(place: Place) -> None:
    place.tell("hangs")
    until(lambda: place.health.phase is Phase.STARTING)
    assert httpx.get(f"{place.url}/health", timeout=5).status_code == 200
    until(lambda: place.health.phase is Phase.DEAD)


def test_a_busy_engine_counts_as_answering_as_long_as_it_makes_tokens(place: Place) -> None:
    place.tell("busy")
    place.tell("hangs")  # a request of ours would wait for its turn
    deadline = time.monotonic() + 2 * health.HUNG_SECONDS
    while time.monotonic() < deadline:
        assert place.health.phase is Phase.ANSWERS
        time.sleep(0.05)


def test_what_an_engine_has_to_do_is_known_as_soon_as_it_serves_and_kept_up(place: Place) -> None:
    until(lambda: place.health.load == EngineLoad(running=0, waiting=3))
    place.tell("busy")
    until(lambda: place.health.load == EngineLoad(running=1, waiting=3))


def test_an_engine_that_ends_is_dead(place: Place) -> None:
    place.process.kill()
    until(lambda: place.health.phase is Phase.DEAD)
