"""Which problems a route answers, for its documentation; what every route can answer is added to each."""

from typing import Any

from hearth_contracts.errors import Problem

_MEANINGS = {
    400: "the body is not JSON",
    403: "not for the key that asks, or not for this hub account",
    404: "there is no such thing",
    409: "the state of things forbids it for now",
    422: "it can be read, but asks for what cannot be; `errors` has an entry a fault",
    502: "the hub answered with an error",
    503: "Redis or the S3 server is not reachable; Retry-After says when to try again",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers these statuses as RFC 9457 problems."""
    body = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    shown = sorted({*statuses, *({400} if 422 in statuses else ()), 503})
    return {status: {"description": _MEANINGS[status], "content": body} for status in shown}
