"""Spans by OpenTelemetry's SDK, sent to a collector by OTLP over HTTP. Imported only where there is one.

Whoever ends a span does not wait: ended spans go into a queue of bounded length, and a thread sends them in batches.
While the collector is away, what does not fit is dropped, and the log says so once.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hearth_telemetry.traces import Attributes, Carrier, Kind

_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS: dict[Kind, SpanKind] = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}


class _OncePerOutage(logging.Filter):
    """Lets one complaint pass until spans are taken again: the SDK has one for each try."""

    has_complained = False

    def filter(self, _record: logging.LogRecord) -> bool:
        has_complained, self.has_complained = self.has_complained, True
        return not has_complained


_COMPLAINTS = _OncePerOutage()
for _name in ("opentelemetry.sdk._shared_internal", trace_exporter.__name__):  # what queues and what sends
    logging.getLogger(_name).addFilter(_COMPLAINTS)


class _Exporter(trace_exporter.OTLPSpanExporter):
    """The SDK's, which says when spans were taken."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            _COMPLAINTS.has_complained = False
        return result


class Tracing:
    """This process's spans. Survives a fork: the child has a queue and a thread of its own."""

    def __init__(self, service: str, endpoint: str) -> None:
        said = Resource.create({SERVICE_NAME: f"hearth-{service}", SERVICE_VERSION: version("hearth-telemetry")})
        said = said.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES go first
        # At exit its own end would wait for a collector that is away: see `flush`.
        self._provider = TracerProvider(resource=said, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint=endpoint)))
        _COMPLAINTS.has_complained = False
        self._tracer = self._provider.get_tracer("hearth")

    def begin(self, name: str, kind: Kind, parent: Carrier, attributes: Attributes) -> Span:
        """See `traces.begin`."""
        context = _PROPAGATOR.extract(parent) if parent else Context()
        return self._tracer.start_span(name, context, _KINDS[kind], attributes)

    @contextmanager
    def current(self, span: Span) -> Iterator[Span]:
        """It is the current one while the block lasts, and ends with it."""
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except Exception as error:
                self.failed(span, type(error).__qualname__)
                raise

    @staticmethod
    def now() -> Span:
        """The current span, or one that takes everything and does nothing."""
        return trace.get_current_span()

    @staticmethod
    def carrier(span: Span | None) -> dict[str, str]:
        """See `traces.carrier`."""
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, None if span is None else trace.set_span_in_context(span, Context()))
        return headers

    @staticmethod
    def failed(span: Span, error: str) -> None:
        """See `traces.failed`."""
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))

    @staticmethod
    def trace_id() -> str:
        """See `traces.trace_id`."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    def flush(self, seconds: float) -> None:
        """Send what has ended, for so long at most: the SDK itself would try for as long as it tries to send."""
        sending = threading.Thread(target=self._provider.force_flush, name="last-spans", daemon=True)
        sending.start()
        sending.join(seconds)
