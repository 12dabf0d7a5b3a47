"""A collector of traces for tests: it takes OTLP over HTTP, as real ones do, and keeps what it was sent."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanProto
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from tenacity import Retrying, stop_after_delay, wait_fixed

from tests.support.servers import free_port


@dataclass(frozen=True)
class Sent:
    """A span as it came."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str  # '' for the first of a trace
    attributes: dict[str, object]
    events: dict[str, dict[str, object]]
    event_times: dict[str, int]  # nanoseconds since the span began
    is_error: bool
    resource: dict[str, object]


class Collector:
    """What was sent, as bytes and as spans."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spans(self) -> list[Sent]:
        """All of them, in no order."""
        found = []
        for body in list(self.bodies):
            request = ExportTraceServiceRequest.FromString(body)
            for group in request.resource_spans:
                resource = _values(group.resource.attributes)
                found += [_read(span, resource) for scope in group.scope_spans for span in scope.spans]
        return found

    def until(self, condition: Callable[[list[Sent]], object], seconds: float = 30) -> list[Sent]:
        """The spans, once they fulfil this."""
        for attempt in Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.05), reraise=True):
            with attempt:
                spans = self.spans()
                assert condition(spans), [(span.service, span.name) for span in spans]
        return spans


def _values(attributes: Sequence[KeyValue]) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}


def _read(span: SpanProto, resource: dict[str, object]) -> Sent:
    return Sent(
        service=str(resource["service.name"]),
        name=span.name,
        kind=SpanProto.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        events={event.name: _values(event.attributes) for event in span.events},
        event_times={event.name: event.time_unix_nano - span.start_time_unix_nano for event in span.events},
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        resource=resource,
    )


@contextmanager
def collecting(collector: Collector) -> Iterator[Collector]:
    """It takes spans while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf":
                collector.bodies.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", collector.port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
