"""The HTTP pool under the S3 client, which measures its requests."""

import time
from typing import Any

from prometheus_client import Counter, Histogram
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SECONDS = Histogram(
    "hearth_s3_call_duration_seconds", "Requests to the S3 server, to the answer's head", ("method",), buckets=BUCKETS
)
ERRORS = Counter("hearth_s3_errors_total", "Requests that S3 failed (status 5xx) or did not answer", ("method",))

for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):  # known from the start, so that the first one is a rise
    ERRORS.labels(method)


class MeasuredPool(PoolManager):
    """A pool of connections whose requests are counted, each once with its retries."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]
        """See PoolManager."""
        began = time.perf_counter()
        try:
            reply = super().urlopen(method, url, redirect, **options)
        except HTTPError:
            ERRORS.labels(method).inc()
            raise
        finally:
            SECONDS.labels(method).observe(time.perf_counter() - began)
        if reply.status >= 500:
            ERRORS.labels(method).inc()
        return reply
