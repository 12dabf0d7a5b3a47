"""The span of a request to a token route, by OpenTelemetry's conventions for HTTP and for generative AI.

Begun with the request, told everything at its end: while a stream passes, nothing is paid.
"""

from typing import TYPE_CHECKING

from hearth_telemetry import traces
from hearth_web.traced import KEY_ID, REQUEST_ID

from hearth_gateway.asked import Usage
from hearth_gateway.door import Caller
from hearth_gateway.heads import Head

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_OPERATION = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "rerank": "rerank",
}


def begin(head: Head, scheme: str) -> "Span | None":
    """A span that continues the client's trace or begins one; None where tracing is off."""
    if not traces.is_tracing():
        return None
    parent = {}
    if head.traceparent is not None:
        parent["traceparent"] = head.traceparent.decode("latin-1")
        if head.tracestate is not None:
            parent["tracestate"] = head.tracestate.decode("latin-1")
    route = f"/v1/{head.route}"
    attributes = {
        "http.request.method": "POST",
        "http.route": route,
        "url.scheme": scheme,
        "gen_ai.operation.name": _OPERATION[head.route],
        REQUEST_ID: head.request_id.decode(),
    }
    return traces.begin(f"POST {route}", "server", parent, attributes)


def headers(span: "Span | None") -> bytes:
    """By which the engine's spans become part of the trace."""
    if span is None:
        return b""
    return b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in traces.carrier(span).items())


def end(span: "Span", status: int, caller: Caller | None, model: str, used: Usage, first_after: float | None) -> None:
    """The request is over. `first_after`: of streams, the seconds from its beginning to their first event."""
    told: dict[str, str | int | bool] = {"http.response.status_code": status}  # at once: each call takes a lock
    if caller is not None:
        told[KEY_ID] = caller.key_id
    if model:
        told["gen_ai.request.model"] = model
    if used.prompt_tokens or used.total_tokens:
        told["gen_ai.usage.input_tokens"] = used.prompt_tokens or used.total_tokens
    if used.completion_tokens is not None:
        told["gen_ai.usage.output_tokens"] = used.completion_tokens
    if first_after is not None:
        told["gen_ai.request.stream"] = True
        began: int | None = getattr(span, "start_time", None)
        if began is not None:  # else it is not sampled
            span.add_event("first token", timestamp=began + int(first_after * 1e9))
    span.set_attributes(told)
    if status >= 500:
        traces.failed(span, str(status))
    span.end()
