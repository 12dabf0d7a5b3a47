"""A job's log: its end, and its lines as they come."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from fastapi.sse import format_sse_event
from hearth_contracts.jobs import Job
from redis.exceptions import RedisError

from hearth_management.services import Services

TAIL_BYTES = 256 * 1024
PERIOD_SECONDS = 0.3
KEEP_ALIVE_SECONDS = 15.0
_READ_BYTES = 64 * 1024


@dataclass(frozen=True)
class Line:
    """A line of a log, and the offset in bytes of what comes after it."""

    text: str
    end: int


def tail_offset(path: Path) -> int:
    """Where the end that is shown begins: at a line, at most TAIL_BYTES before the end of the file."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= TAIL_BYTES:
        return 0
    with path.open("rb") as file:
        file.seek(size - TAIL_BYTES)
        file.readline()
        return file.tell()


def tail(path: Path) -> str:
    """The end of a log; empty when there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(tail_offset(path))
            return file.read(TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def read_lines(path: Path, offset: int, *, complete: bool) -> list[Line]:
    """Lines from `offset` on, a portion at a time; `complete` says that a last line without an end is whole."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            portion = file.read(_READ_BYTES)
    except FileNotFoundError:
        return []
    at_end = len(portion) < _READ_BYTES
    lines: list[Line] = []
    while portion:
        piece, newline, portion = portion.partition(b"\n")
        if not newline and not (complete and at_end) and len(piece) < _READ_BYTES:
            break  # the rest of it is not written, or not read, yet
        offset += len(piece) + len(newline)
        lines.append(Line(piece.decode(errors="replace"), offset))
    return lines


async def follow(services: Services, job_id: str, last_event_id: str | None) -> AsyncIterator[bytes]:
    """Server-sent events: each line with its end's offset as id; at last `end` with the job as it then is.

    A client that comes back with the last id it saw gets what came after it.
    """
    path = services.home.job_log(job_id)
    offset = await asyncio.to_thread(_first_offset, path, last_event_id)
    sent = time.monotonic()
    over: Job | None = None
    while True:
        lines = await asyncio.to_thread(read_lines, path, offset, complete=over is not None)
        if lines:
            yield b"".join(format_sse_event(data_str=line.text, id=str(line.end)) for line in lines)
            offset, sent = lines[-1].end, time.monotonic()
        if over is not None and not lines:
            yield format_sse_event(data_str=over.model_dump_json(), event="end")
            return
        if not lines:
            over = await asyncio.to_thread(_over, services, job_id)
            await asyncio.sleep(PERIOD_SECONDS)  # after it: some write their last line when the job is over
        if time.monotonic() - sent > KEEP_ALIVE_SECONDS:
            yield format_sse_event(comment="keep-alive")
            sent = time.monotonic()


def _first_offset(path: Path, last_event_id: str | None) -> int:
    """Where to begin: after the last line that was seen, if that is in the log."""
    if last_event_id is not None and re.fullmatch("[0-9]{1,18}", last_event_id):
        seen = int(last_event_id)
        if path.exists() and seen <= path.stat().st_size:
            return seen
    return tail_offset(path)


def _over(services: Services, job_id: str) -> Job | None:
    """The job, if it is over. While Redis is away nobody knows, so it is not."""
    try:
        job = services.jobs.get(job_id)
    except RedisError:
        return None
    return job if job.status.is_over else None
