"""Traces: what a request or an attempt at a job did, and what it was part of, for an OpenTelemetry collector.

Only where OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) names one: else what makes and sends
spans is not imported, and each function here returns at once. Spans carry ids, names and figures; never what
was asked or answered, no words of an error (they may quote a row), no key.

How much is traced, and what is said of the process besides its name, are OpenTelemetry's own OTEL_* variables.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from hearth_telemetry.otlp import Tracing

log = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | bool]
Carrier = Mapping[str, str]
"""`traceparent` and `tracestate`, W3C Trace Context's two headers: by them a span elsewhere continues a trace."""

Kind = Literal["server", "consumer"]

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_FLUSH_SECONDS = 2.0

_tracing: "Tracing | None" = None


def endpoint() -> str | None:
    """Where spans are sent by HTTP, as OpenTelemetry's exporter reads it; None where tracing is off.

    An address with a password in it is none: an engine has it on its command line, for everybody to see.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    base = os.environ.get(_ENDPOINT, "").strip()
    address = os.environ.get(_TRACES_ENDPOINT, "").strip() or (f"{base.rstrip('/')}/v1/traces" if base else "")
    if "@" in urlsplit(address).netloc:
        log.warning("not traced: %s holds a password, which belongs in OTEL_EXPORTER_OTLP_HEADERS", _ENDPOINT)
        return None
    return address or None


def configure_tracing(service: str) -> None:
    """Trace this process as the service hearth-`service`, where an endpoint is set."""
    global _tracing
    address = endpoint()
    if address is None:
        _tracing = None
        return
    from hearth_telemetry.otlp import Tracing

    _tracing = Tracing(service, address)


def is_tracing() -> bool:
    """Whether spans are made in this process."""
    return _tracing is not None


def begin(name: str, kind: Kind, parent: Carrier, attributes: Attributes) -> "Span | None":
    """A span that the caller ends, the beginning of a trace where `parent` is empty or malformed; None when off."""
    return None if _tracing is None else _tracing.begin(name, kind, parent, attributes)


@contextmanager
def span(name: str, kind: Kind, parent: Carrier, attributes: Attributes) -> Iterator["Span | None"]:
    """A span that is the current one of its thread or task while the block lasts; None when off.

    An exception that leaves the block marks it as an error, by its type alone.
    """
    if _tracing is None:
        yield None
        return
    with _tracing.current(_tracing.begin(name, kind, parent, attributes)) as current:
        yield current


def carrier(of: "Span | None" = None) -> dict[str, str]:
    """By which another process continues `of`, or the current span; empty where there is none."""
    return {} if _tracing is None else _tracing.carrier(of)


def annotate(attributes: Attributes) -> None:
    """Say more of the current span."""
    if _tracing is not None:
        _tracing.now().set_attributes(attributes)


def event(name: str, attributes: Attributes) -> None:
    """Something happened in the current span."""
    if _tracing is not None:
        _tracing.now().add_event(name, attributes)


def failed(of: "Span", error: str) -> None:
    """Mark a span as an error, by a word that names its kind."""
    if _tracing is not None:
        _tracing.failed(of, error)


def trace_id() -> str:
    """The trace that the current span is part of; '' where there is none."""
    return "" if _tracing is None else _tracing.trace_id()


def flush() -> None:
    """Send what has ended before this process does; no longer than two seconds."""
    if _tracing is not None:
        _tracing.flush(_FLUSH_SECONDS)
