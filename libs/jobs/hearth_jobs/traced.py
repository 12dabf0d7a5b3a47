"""Each attempt at a job is a span of the trace that the request which made the job is part of."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hearth_contracts.jobs import JobStatus
from hearth_telemetry import traces

from hearth_jobs.store import Origin

if TYPE_CHECKING:
    from opentelemetry.trace import Span

GIVEN_BACK = "given back"
"""In place of a status: the job waits for another attempt."""


class AttemptSpan:
    """The span of one attempt; where tracing is off, nothing."""

    def __init__(self, span: "Span | None") -> None:
        self._span = span

    def event(self, name: str, attributes: traces.Attributes) -> None:
        """Something happened."""
        if self._span is not None:
            self._span.add_event(name, attributes)

    def outcome(self, status: JobStatus | None) -> None:
        """How the attempt ended; None when it was given back."""
        if self._span is not None:
            self._span.set_attribute("hearth.job.status", status.value if status else GIVEN_BACK)
            if status is JobStatus.FAILED:
                traces.failed(self._span, status.value)

    def end(self) -> None:
        """It is over, as far as the trace is concerned."""
        if self._span is not None:
            self._span.end()


def begin(origin: Origin, job_id: str, number: int) -> AttemptSpan:
    """The span of attempt `number`, for the caller to end."""
    return AttemptSpan(traces.begin(*_told(origin, job_id, number)))


@contextmanager
def attempting(origin: Origin, job_id: str, number: int) -> Iterator[AttemptSpan]:
    """The same as the current span while the block lasts; it is sent before this returns: a work-horse ends at once."""
    try:
        with traces.span(*_told(origin, job_id, number)) as span:
            yield AttemptSpan(span)
    finally:
        traces.flush()


def _told(origin: Origin, job_id: str, number: int) -> tuple[str, traces.Kind, traces.Carrier, traces.Attributes]:
    attributes: dict[str, str | int] = {
        "hearth.job.id": job_id,
        "hearth.job.kind": origin.kind,
        "hearth.job.attempt": number,
        "hearth.request_id": origin.request_id,
    }
    return f"job {origin.kind}", "consumer", {"traceparent": origin.traceparent}, attributes
