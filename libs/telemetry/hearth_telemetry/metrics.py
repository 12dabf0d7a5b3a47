"""Metrics, the same in every process: buckets, and the page that Prometheus reads.

A service that runs as several processes sets PROMETHEUS_MULTIPROC_DIR before it imports anything that measures; each
process then writes to files there, and whichever is asked adds them up.
"""

import os
import re
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds, from what a gateway adds to what a long completion takes."""

TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Seconds between two tokens."""

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
_LIVE = re.compile(r"gauge_live\w*_(\d+)\.db")


def exposition(further: CollectorRegistry | None = None) -> bytes:
    """The metrics of this service and of one `further` registry, in Prometheus's text format."""
    found = generate_latest(further) if further is not None else b""  # first: looking is counted, too
    return _own() + found


def _own() -> bytes:
    folder = os.environ.get(FOLDER)
    if not folder:
        return generate_latest(REGISTRY)
    for file in Path(folder).glob("gauge_live*.db"):
        found = _LIVE.fullmatch(file.name)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            mark_process_dead(int(found[1]), folder)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
