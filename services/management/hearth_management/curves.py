"""The curve of a training: as far as it has come, and each step as it comes."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

from fastapi.sse import format_sse_event
from hearth_contracts.finetune import FinetuneMetrics, FinetuneStatus, Metric
from redis.exceptions import RedisError

from hearth_management import finetune
from hearth_management.services import Services

PERIOD_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0


def metrics(services: Services, finetune_id: str, after: int = 0) -> FinetuneMetrics:
    """The steps behind step `after`. Raises NotFound."""
    record = finetune.get(services, finetune_id)
    return FinetuneMetrics(
        finetune_id=record.id, job=record.job, points=tuple(services.finetunes.points(record.id, after))
    )


async def follow(services: Services, finetune_id: str, last_event_id: str | None) -> AsyncIterator[bytes]:
    """Server-sent events: each step with its number as id; at last `end` with the fine-tune as it then is.

    A client that comes back with the last id it saw gets what came after it. A step that is measured on the
    validation rows once it was sent is sent again, with its eval_loss; so are the steps of a run that went back to a
    checkpoint.
    """
    sent_at = time.monotonic()
    seen = re.fullmatch("[0-9]{1,9}", last_event_id or "")
    last = int(seen.group()) if seen else 0
    latest: Metric | None = None
    over: FinetuneStatus | None = None
    while True:
        points = await asyncio.to_thread(_points, services, finetune_id, last, latest)
        if points:
            yield b"".join(format_sse_event(data_str=point.model_dump_json(), id=str(point.step)) for point in points)
            latest, last, sent_at = points[-1], points[-1].step, time.monotonic()
        elif over is not None:
            yield format_sse_event(data_str=over.model_dump_json(), event="end")
            return
        else:
            over = await asyncio.to_thread(_over, services, finetune_id)
            await asyncio.sleep(PERIOD_SECONDS)  # after it: the last points come before the job is over
        if time.monotonic() - sent_at > KEEP_ALIVE_SECONDS:
            yield format_sse_event(comment="keep-alive")
            sent_at = time.monotonic()


def _points(services: Services, finetune_id: str, last: int, latest: Metric | None) -> list[Metric]:
    """What is new behind step `last`, of which `latest` was sent. While Redis is away nothing is."""
    try:
        points = services.finetunes.points(finetune_id, after=last - 1)
        if not points and latest is not None:  # the run went back behind what was sent
            points = services.finetunes.points(finetune_id)[-1:]
    except RedisError:
        return []
    return [point for point in points if point != latest and (point.step != last or latest is not None)]


def _over(services: Services, finetune_id: str) -> FinetuneStatus | None:
    """The fine-tune, if its job is over. While Redis is away nobody knows, so it is not."""
    try:
        record = finetune.get(services, finetune_id)
    except RedisError:
        return None
    return record if record.job.status.is_over else None
