"""JSON lines on standard output, one an event, with the service's name and the request's id.

The libraries' own loggers (uvicorn, rq, httpx) go through the same renderer, so that a log file has one form.
"""

import logging
import sys
from contextvars import ContextVar

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the HTTP request being answered, if any."""


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send every log record of this process to standard output as JSON, marked with `service`."""

    def mark(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        if (current := request_id.get()) is not None:
            event["request_id"] = current
        return event

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=("audit",)),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
