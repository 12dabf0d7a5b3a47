"""The door: who asks, whether they may, and what it cost. All of it in memory; `keeper` trades with Redis beside it.

caller = door.admit(authorization)          # who
slot = caller.begin(model, stream=True)     # may they, now
try: ...
finally: slot.end(...)                      # what it cost
"""

import hmac
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hearth_access.key_store import StoredKey
from hearth_access.secret import LENGTH, NO_DIGEST, key_id_of, matches
from hearth_contracts.access import Limits, Role
from hearth_contracts.base import now
from hearth_web.asker import KEY_HEADER, ROLE_HEADER

from hearth_gateway.ledger import Ledger
from hearth_gateway.limits import Meter, Over
from hearth_gateway.replies import Refused

log = logging.getLogger(__name__)

OPEN: Final = "open"
"""Stands for a key's id where no key is needed."""

BEARER: Final = b"bearer "
TOLD_EVERY_SECONDS: Final = 1.0
CHALLENGE: Final = [(b"www-authenticate", b'Bearer realm="Hearth"')]


class Slot:
    """A request that was let in. `end` must be called exactly once, whatever becomes of it."""

    __slots__ = ("_caller", "_model", "_stream", "lines")

    def __init__(self, caller: "Caller", model: str, stream: bool, lines: bytes) -> None:
        self.lines = lines  # of the headers that tell what is left
        self._caller = caller
        self._model = model
        self._stream = stream

    def end(self, *, prompt_tokens: int = 0, completion_tokens: int = 0, embedding_tokens: int = 0) -> None:
        """It is over: count what it took, and let the next one in."""
        caller = self._caller
        if caller.meter is not None:
            caller.meter.end(self._stream, prompt_tokens + completion_tokens + embedding_tokens)
        caller.ledger.add(caller.key_id, self._model, prompt_tokens, completion_tokens, embedding_tokens)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    key_id: str
    name: str
    role: Role
    models: frozenset[str] | None  # the names it may ask; None for all
    ledger: Ledger
    meter: Meter | None  # None: without limits

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """How the services behind the gateway are told who asks (`hearth_web.asker`)."""
        role = (ROLE_HEADER.encode(), self.role.value.encode())
        return [role] if self.key_id == OPEN else [role, (KEY_HEADER.encode(), self.key_id.encode())]

    def may_ask(self, model: str) -> bool:
        """Whether the key is for this model."""
        return self.models is None or model in self.models

    def begin(self, model: str, *, stream: bool) -> Slot:
        """Let a request in. `model` must be one that is served: it is what usage is counted by.

        Raises Refused: 403 when the key is not for the model, 429 when a limit is reached.
        """
        if self.models is not None and model not in self.models:
            named = ", ".join(sorted(self.models)) or "none"
            message = f"this API key is not for the model `{model}`; it is for: {named}"
            raise Refused(403, message, code="model_not_allowed", param="model")
        meter = self.meter
        if meter is None:
            return Slot(self, model, stream, b"")
        over = meter.over(stream)
        if over is not None:
            raise _too_many(meter, over)
        meter.begin(stream)
        return Slot(self, model, stream, meter.lines())


@dataclass(frozen=True, slots=True)
class _Known:
    """A live key."""

    digest: bytes
    caller: Caller


class Door:
    """Knows the keys. Used by the event loop alone.

    Until they have been read once nobody is let in; if Redis goes away later, the last known keys go on.
    """

    def __init__(self, may_be_open: bool) -> None:
        self.may_be_open = may_be_open  # nobody else can reach it, or whoever runs it said that all may
        self.ledger = Ledger()
        self.meters: dict[str, Meter] = {}  # of the keys with limits
        self.loaded = False
        self.open = False
        self.changes = 0  # of who is let in
        self._known: dict[str, _Known] = {}
        self._expiring: dict[str, datetime] = {}
        self._everybody = Caller(OPEN, OPEN, Role.ADMIN, None, self.ledger, None)
        self._failures = 0
        self._told_at = -math.inf

    def admit(self, authorization: bytes | None) -> Caller:
        """Who sends this `Authorization` header. Raises Refused: 401, or 503 while no key has been read yet."""
        if self.open:
            return self._everybody
        if authorization is None or authorization[: len(BEARER)].lower() != BEARER:
            raise self._stranger("an API key is needed: send it as `Authorization: Bearer <key>`", "missing_api_key")
        secret = authorization[len(BEARER) :].strip()
        known = self._known.get(key_id_of(secret)) if len(secret) == LENGTH else None
        if not matches(secret, known.digest if known is not None else NO_DIGEST) or known is None:
            raise self._stranger("this API key is not valid: unknown, revoked or expired", "invalid_api_key")
        return known.caller

    def learn(self, stored: Iterable[StoredKey]) -> None:
        """Take the keys as they are now."""
        self.changes += 1
        keys = list(stored)
        self.open = self.may_be_open and not keys
        live = [each for each in keys if each.key.revoked_at is None]
        limited = {each.key.id: each.key.limits for each in live if each.key.limits != Limits()}
        self.meters = {key_id: self._meter(key_id, limits) for key_id, limits in limited.items()}
        self._known = {each.key.id: self._know(each) for each in live}
        self._expiring = {each.key.id: each.key.expires_at for each in live if each.key.expires_at is not None}
        self.drop_expired()
        self.loaded = True

    def drop_expired(self) -> None:
        """Forget the keys whose time is over."""
        moment = now()
        for key_id in [key_id for key_id, expires_at in self._expiring.items() if expires_at <= moment]:
            self.changes += 1
            del self._expiring[key_id], self._known[key_id]
            self.meters.pop(key_id, None)

    def _meter(self, key_id: str, limits: Limits) -> Meter:
        meter = self.meters.get(key_id)
        if meter is None:
            return Meter(key_id, limits)
        if meter.limits != limits:
            meter.set_limits(limits)
        return meter

    def _know(self, stored: StoredKey) -> _Known:
        key = stored.key
        models = frozenset(key.models) if key.models is not None else None
        caller = Caller(key.id, key.name, key.role, models, self.ledger, self.meters.get(key.id))
        return _Known(stored.digest, caller)

    def _stranger(self, message: str, code: str) -> Refused:
        if not self.loaded:
            return Refused(503, "the API keys cannot be read yet; try again", code="not_ready", retry=True)
        self._failures += 1
        moment = time.monotonic()
        if moment - self._told_at >= TOLD_EVERY_SECONDS:
            log.warning("%d requests without a valid API key were refused since this was last said", self._failures)
            self._failures, self._told_at = 0, moment
        return Refused(401, message, code=code, headers=CHALLENGE)


class Visitor:
    """Who sends on one connection. The header of its last request is compared, not hashed anew, till a key changes."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._caller: Caller | None = None
        self._showed = b""
        self._as_of = 0

    def admit(self, authorization: bytes | None) -> Caller:
        """See Door."""
        door, caller = self._door, self._caller
        if authorization is None:
            return door.admit(None)
        if caller is None or self._as_of != door.changes or not hmac.compare_digest(authorization, self._showed):
            caller = self._caller = door.admit(authorization)
            self._showed, self._as_of = authorization, door.changes
        return caller


def _too_many(meter: Meter, over: Over) -> Refused:
    wait = max(1, math.ceil(over.seconds))
    message = f"the limit of this API key is reached: {over.limit}; try again in {wait} s"
    headers = [(b"retry-after", b"%d" % wait)]
    return Refused(429, message, code="rate_limit_exceeded", kind=over.kind, headers=headers, lines=meter.lines())
