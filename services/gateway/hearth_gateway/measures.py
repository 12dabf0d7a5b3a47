"""What the gateway measures of the token path; names as Prometheus has them, times in seconds.

Label values are few by construction: a model is one that is served (or empty), a route one of the gateway's.
"""

from functools import cache
from typing import Final

from hearth_telemetry.metrics import LATENCY_BUCKETS, TOKEN_BUCKETS
from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "hearth_gateway_requests_total",
    "Requests to token routes by status; 499: the client left",
    ("route", "model", "status"),
)
IN_FLIGHT = Gauge("hearth_gateway_requests_in_flight", "Requests being read or answered", multiprocess_mode="livesum")
DURATION = Histogram(
    "hearth_gateway_request_duration_seconds", "From head to last byte", ("route", "model"), buckets=LATENCY_BUCKETS
)
FIRST_TOKEN = Histogram(
    "hearth_gateway_time_to_first_token_seconds", "Of streams, from head to first event", ("model",),
    buckets=LATENCY_BUCKETS,
)  # fmt: skip
BETWEEN_TOKENS = Histogram(
    "hearth_gateway_inter_token_seconds", "Of streams, the mean between two events", ("model",), buckets=TOKEN_BUCKETS
)
TOKENS = Counter("hearth_gateway_tokens_total", "Tokens as engines counted them", ("model", "kind"))
ABORTS = Counter(
    "hearth_gateway_aborts_total",
    "Clients that left, before or after the first byte",
    ("route", "model", "when"),
)
UPSTREAM_ERRORS = Counter("hearth_gateway_upstream_errors_total", "What engines did wrong", ("kind",))
REFUSALS = Counter("hearth_gateway_refusals_total", "Requests that were not passed on, by error code", ("code",))

_requests: Final[dict[tuple[str, str, int], int]] = {}
_used: Final[dict[tuple[str, str], int]] = {}
_duration: Final = cache(DURATION.labels)
_first_token: Final = cache(FIRST_TOKEN.labels)
_between_tokens: Final = cache(BETWEEN_TOKENS.labels)


def ended(route: str, model: str, status: int, seconds: float) -> None:
    """A request is over; `model` is empty where it was refused before one was found."""
    model = model or "none"  # an empty label is no label to Prometheus
    request = (route, model, status)
    _requests[request] = _requests.get(request, 0) + 1
    _duration(route, model).observe(seconds)


def used(model: str, tokens: dict[str, int]) -> None:
    """What it took, by kind."""
    for kind, count in tokens.items():
        if count:
            _used[model, kind] = _used.get((model, kind), 0) + count


def bring() -> None:
    """Bring what was counted since this was last called to Prometheus' counters. For the event loop alone.

    Each of theirs takes a lock, and a request would take three: a fifteenth of all that it costs.
    """
    while _requests:
        request, count = _requests.popitem()
        REQUESTS.labels(*request).inc(count)
    while _used:
        of, count = _used.popitem()
        TOKENS.labels(*of).inc(count)


def streamed(model: str, first: float, rest: float, events: int) -> None:
    """A stream is over: seconds to its first event, and from there to its last."""
    _first_token(model).observe(first)
    if events > 1:
        _between_tokens(model).observe(rest / (events - 1))


def aborted(route: str, model: str, started: bool) -> None:
    """A client left."""
    ABORTS.labels(route, model, "after_first_byte" if started else "before_first_byte").inc()
