"""Keeps the door and Redis in step: keys in, what was spent and used out. One task beside the requests.

Every 200 ms it asks whether keys have changed and settles limits; every second it brings usage in. Polling and not
pub/sub: a message can be lost, so it would have to poll as well, and one more question in a round trip costs nothing.
"""

import asyncio
import logging
import time
from secrets import token_hex

from hearth_access.audit_store import AuditStore
from hearth_access.key_store import KeyStore, StoredKey
from hearth_access.rate_store import RateStore
from hearth_access.usage_store import UsageStore
from redis import Redis

from hearth_gateway.audit import AuditTrail
from hearth_gateway.door import Door

log = logging.getLogger(__name__)

TRADE_SECONDS = 0.2
USAGE_SECONDS = 1.0
UNREAD = object()
"""The version of keys that were never read."""


class Keeper:
    """The task. Redis is asked in a thread; the door is touched by the event loop alone."""

    def __init__(self, door: Door, trail: AuditTrail, redis: Redis) -> None:
        self.door = door
        self.trail = trail
        self.gateway_id = token_hex(8)
        self._keys = KeyStore(redis)
        self._rates = RateStore(redis, self.gateway_id)
        self._usage = UsageStore(redis)
        self._audit = AuditStore(redis)
        self._version: object = UNREAD
        self._task: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self._away = False

    async def start(self) -> None:
        """Read the keys, if Redis is there, and go on doing so."""
        await self._trade()
        self._task = asyncio.create_task(self._run(), name="keeper")

    async def stop(self) -> None:
        """End, with everything brought in that can be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._used_at = 0.0
        await self._trade()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TRADE_SECONDS)
            await self._trade()

    async def _trade(self) -> None:
        """One round; what fails is tried again in the next."""
        try:
            await self._take_keys()
            await self._settle()
            await self._bring_audit()
            if time.monotonic() - self._used_at >= USAGE_SECONDS:
                self._used_at = time.monotonic()
                await self._bring_usage()
        except Exception as error:  # Redis is away, or another version wrote to it: the door must not stay without us
            if not self._away:
                log.warning("Redis cannot be reached; the last known API keys stay in use: %r", error)
            self._away = True
        else:
            if self._away:
                log.info("Redis can be reached again; API keys, limits and usage are in step")
            self._away = False
        finally:
            self.door.drop_expired()

    async def _take_keys(self) -> None:
        version, stored = await asyncio.to_thread(self._read_keys, self._version)
        if stored is not None:
            self.door.learn(stored)
            self._version = version

    def _read_keys(self, known: object) -> tuple[object, list[StoredKey] | None]:
        version = self._keys.version()  # first: a change after it is then found in the next round
        return version, self._keys.stored() if version != known else None

    async def _settle(self) -> None:
        meters = [meter for meter in self.door.meters.values() if not meter.is_idle]
        if not meters:
            return
        spent = [meter.take_spent() for meter in meters]
        try:
            left = await asyncio.to_thread(self._rates.settle, spent)
        except BaseException:
            for meter, mine in zip(meters, spent, strict=True):
                meter.not_settled(mine)
            raise
        for meter, its in zip(meters, left, strict=True):
            meter.settled(its)

    async def _bring_audit(self) -> None:
        entries = self.trail.take()
        if not entries:
            return
        try:
            await asyncio.to_thread(self._audit.append, entries)
        except BaseException:
            self.trail.put_back(entries)
            raise

    async def _bring_usage(self) -> None:
        while (batch := self.door.ledger.batch()) is not None:
            await asyncio.to_thread(self._usage.add, self.gateway_id, batch.number, batch.used)
            self.door.ledger.arrived()
