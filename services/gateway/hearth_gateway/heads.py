"""What is known of a request to a token route before its body."""

from typing import NamedTuple


class Head(NamedTuple):
    """Its first line and headers, as far as they matter; no other header is read."""

    route: str  # e.g. chat/completions
    request_id: bytes
    authorization: bytes | None
    origin: bytes | None  # of the web page that asks
    host: bytes | None
    length: int | None
    wants_continue: bool
    wants_upgrade: bool  # to another protocol; then the parser reads no body
    may_chunk: bool  # HTTP/1.1
    keep_alive: bool  # as far as the client is concerned
    traceparent: bytes | None  # of the span that asks
    tracestate: bytes | None
