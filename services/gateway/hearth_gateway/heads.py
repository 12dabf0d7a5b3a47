"""What is known of a request to a token route before its body."""


class Head:
    """Its first line and headers, as far as they matter; no other header is read. Never changed.

    A plain class, which mypyc makes as fast as it gets: a NamedTuple would be Python's own.
    """

    __slots__ = (
        "authorization", "host", "keep_alive", "length", "may_chunk", "origin", "request_id", "route", "traceparent",
        "tracestate", "wants_continue", "wants_upgrade",
    )  # fmt: skip

    def __init__(
        self,
        route: str,  # e.g. chat/completions
        request_id: bytes,
        authorization: bytes | None,
        origin: bytes | None,  # of the web page that asks
        host: bytes | None,
        length: int | None,
        wants_continue: bool,
        wants_upgrade: bool,  # to another protocol; then the parser reads no body
        may_chunk: bool,  # HTTP/1.1
        keep_alive: bool,  # as far as the client is concerned
        traceparent: bytes | None,  # of the span that asks
        tracestate: bytes | None,
    ) -> None:
        self.route = route
        self.request_id = request_id
        self.authorization = authorization
        self.origin = origin
        self.host = host
        self.length = length
        self.wants_continue = wants_continue
        self.wants_upgrade = wants_upgrade
        self.may_chunk = may_chunk
        self.keep_alive = keep_alive
        self.traceparent = traceparent
        self.tracestate = tracestate
