"""The gateway as it is really run: several processes on one port, one of them killed, and an end that cuts nothing."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import httpx
import psutil
import pytest
from hearth_contracts.deploy import DeploymentState, Engine, NodeReport
from hearth_jobs.nodes import NodeRegistry
from redis import Redis

from services.gateway.tests.conftest import Place
from tests.support.servers import free_port
from tests.support.wire import PATIENCE_SECONDS, Wire, wire

CHAT = "/v1/chat/completions"
STREAM = b'{"model":"LLM","messages":[],"stream":true}'
START_SECONDS = 60


class Run(NamedTuple):
    """A gateway of two workers, and the engine it asks."""

    process: "subprocess.Popen[bytes]"
    port: int
    engine: Wire

    def workers(self) -> set[int]:
        """Their process ids."""
        children = psutil.Process(self.process.pid).children()
        return {child.pid for child in children if any("spawn_main" in word for word in child.cmdline())}

    def ask(self) -> int:
        """Ask over a connection of its own; the engine answers."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as client:
            client.request("POST", CHAT, b'{"model":"LLM","messages":[]}')
            exchange = self.engine.take()
            exchange.read_body()
            exchange.reply(b'{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}', "connection: close")
            return client.getresponse().status

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, as whichever worker is asked tells it."""
        page = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))

    def knows_the_model(self) -> bool:
        """Whether a worker answers to it. Raises httpx.HTTPError while none answers at all."""
        return "LLM" in httpx.get(f"http://127.0.0.1:{self.port}/v1/models").text


@pytest.fixture
def run(redis: Redis, redis_url: str) -> Iterator[Run]:
    port = free_port()
    environment = os.environ | {
        "HEARTH_REDIS_URL": redis_url, "HEARTH_GATEWAY_PORT": str(port), "HEARTH_GATEWAY_WORKERS": "2",
        "HEARTH_DRAIN_TIMEOUT": "20",
    }  # fmt: skip
    with wire() as engine:
        report = NodeReport(
            node_id="n", deployment="default", engine=Engine.VLLM, state=DeploymentState.READY, url=engine.url,
            models=("LLM",), model_id="org/base", generation=1,
        )  # fmt: skip
        NodeRegistry(redis).report(report)
        redis.persist("hearth:node:n")  # the stand-in's lease does not end
        with subprocess.Popen([sys.executable, "-m", "hearth_gateway"], env=environment) as process:
            running = Run(process, port, engine)
            try:
                Place.eventually(lambda: sum(running.knows_the_model() for _ in range(8)) == 8, START_SECONDS)
                Place.eventually(lambda: len(running.workers()) == 2, START_SECONDS)
                yield running
            finally:
                process.terminate()
                process.wait(30)


def test_two_workers_count_together_outlive_one_another_and_end_without_cutting_a_stream(run: Run) -> None:
    assert [run.ask() for _ in range(12)] == [200] * 12
    # the worker that is asked says its own at once, the other's within half a second
    Place.eventually(lambda: run.metric("hearth_gateway_requests_total") == 12)
    for _ in range(4):  # whichever is asked
        assert run.metric("hearth_gateway_requests_total") == 12
        assert run.metric("hearth_gateway_tokens_total") == 12 * 5
        assert run.metric("hearth_gateway_request_duration_seconds_count") == 12

    before = run.workers()
    os.kill(min(before), signal.SIGKILL)
    Place.eventually(lambda: len(run.workers()) == 2 and run.workers() != before, START_SECONDS)
    Place.eventually(lambda: sum(run.knows_the_model() for _ in range(8)) == 8, START_SECONDS)
    assert [run.ask() for _ in range(4)] == [200] * 4
    Place.eventually(
        lambda: run.metric("hearth_gateway_requests_total") == 16
    )  # what the dead one had counted is not forgotten

    with closing(http.client.HTTPConnection("127.0.0.1", run.port, timeout=PATIENCE_SECONDS)) as client:
        client.request("POST", CHAT, STREAM)
        exchange = run.engine.take()
        exchange.read_body()
        exchange.begin_events()
        exchange.chunk(b"data: 1\n\n")
        reply = client.getresponse()
        assert reply.read1() == b"data: 1\n\n"
        run.process.send_signal(signal.SIGTERM)
        Place.eventually(lambda: _refuses(run.port))
        exchange.chunk(b"data: 2\n\ndata: [DONE]\n\n")
        exchange.chunk(b"")
        assert reply.read() == b"data: 2\n\ndata: [DONE]\n\n"
        reply.close()
    run.process.wait(PATIENCE_SECONDS * 2)


def _refuses(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=0.3)
    except (httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError):
        return True
    return False
