"""When a process is traced, what it is called, and that nothing is paid where it is not."""

import json
import logging
import subprocess
import sys

import pytest
from hearth_telemetry import traces
from hearth_telemetry.logs import configure_logging

from tests.support.collector import Collector

EVERY_PROCESS = (
    "hearth_gateway.server", "hearth_management.app", "hearth_dataset.app", "hearth_management.downloads",
    "hearth_training.runs", "hearth_inference.serve",
)  # fmt: skip
WHAT_TRACES = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf")
"""FastAPI and redis-py import the API, and the SDK's metrics where they are installed; nothing of these."""

IMPORTED = """
import importlib, json, sys
from hearth_telemetry.traces import configure_tracing
for name in sys.argv[1:]:
    importlib.import_module(name)
configure_tracing("test")
print(json.dumps(sorted(sys.modules)))
"""


def imported(*modules: str, **environment: str) -> list[str]:
    """What of it a process has that imports these."""
    command = [sys.executable, "-c", IMPORTED, *modules]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [name for name in json.loads(done.stdout) if name.startswith(WHAT_TRACES)]


def test_nothing_that_traces_is_imported_without_an_endpoint() -> None:
    assert imported(*EVERY_PROCESS) == []
    assert imported(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") != []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}, "http://t/x"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:password@c:4318"}, None),
    ],
)
def test_the_endpoint_is_as_opentelemetry_reads_it(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert traces.endpoint() == expected


def test_a_process_says_which_service_it_is_unless_it_is_told_otherwise(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> None:
        with traces.span("a", "server", {}, {}):
            traces.event("it happened", {"step": 1})
        traces.flush()

    made()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
    traces.configure_tracing("test")
    made()
    ours, told = collector.until(lambda spans: len(spans) == 2)
    assert (ours.service, ours.resource["service.version"]) == ("hearth-test", "0.1.0")
    assert (told.service, told.resource["deployment.environment.name"]) == ("other", "lab")
    assert ours.events == {"it happened": {"step": 1}}


def test_an_error_is_told_by_its_type_and_not_by_its_words(collector: Collector) -> None:
    with pytest.raises(ValueError, match="secret"), traces.span("a", "server", {}, {}):
        raise ValueError("secret row")
    traces.flush()
    [span] = collector.until(len)
    assert (span.is_error, span.attributes["error.type"]) == (True, "ValueError")
    assert b"secret" not in collector.bodies[0]


def test_a_log_line_names_its_trace(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging("test")
        with traces.span("a", "server", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, {}):
            logging.getLogger("x").warning("inside")
        logging.getLogger("x").warning("outside")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    inside, outside = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert inside["trace_id"] == "a" * 32
    assert "trace_id" not in outside
