"""JSON lines on standard output, one an event, with the service's name and what is being worked on.

That is what `structlog.contextvars` holds: `request_id` and `key_id` of the HTTP request being answered, `job_id` of
the job at work and the `request_id` that it was made by; and `trace_id` where it is traced. The libraries' own loggers
(uvicorn, rq, httpx) go through the same renderer, so that a log file has one form.
"""

import logging
import sys

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from hearth_telemetry.traces import trace_id


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send every log record of this process to standard output as JSON, marked with `service`."""

    def mark(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        if trace := trace_id():
            event["trace_id"] = trace
        return event

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=("audit",)),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.contextvars.merge_contextvars,
        mark,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "urllib3", "rq.worker"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
